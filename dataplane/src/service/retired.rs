//! Frontends and endpoints that are gone, remembered for a while.
//!
//! Their TCP connections live on (CTK-1), so the rule that says which worker owns a packet must not change when a
//! Service or an endpoint goes. Bounded: of too many the oldest are forgotten first.

use std::collections::{HashMap, VecDeque};

use super::End;

const MAX: usize = 65_536;

/// What is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Former {
    /// A frontend.
    Frontend(End),
    /// An endpoint of some row.
    Endpoint(End),
}

/// Those that are gone, oldest first.
#[derive(Debug, Default)]
pub(super) struct Retired {
    queue: VecDeque<(Former, u64)>,
    /// The latest retirement of each; what came back has none.
    latest: HashMap<Former, u64>,
    count: u64,
    /// How many of the queue were there at the last [`Retired::forget`].
    aged: usize,
}

impl Retired {
    /// Remembers one. Returns one to forget, if there are too many.
    pub(super) fn add(&mut self, former: Former) -> Option<Former> {
        self.count += 1;
        self.latest.insert(former, self.count);
        self.queue.push_back((former, self.count));
        if self.queue.len() > MAX { self.pop() } else { None }
    }

    /// It is back.
    pub(super) fn revive(&mut self, former: Former) {
        self.latest.remove(&former);
    }

    /// Those that were there at the last call already.
    pub(super) fn forget(&mut self) -> Vec<Former> {
        let forgotten = (0..self.aged).filter_map(|_| self.pop()).collect();
        self.aged = self.queue.len();
        forgotten
    }

    fn pop(&mut self) -> Option<Former> {
        let (former, number) = self.queue.pop_front()?;
        self.aged = self.aged.saturating_sub(1);
        if self.latest.get(&former) != Some(&number) {
            return None;
        }
        self.latest.remove(&former);
        Some(former)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Address, Protocol};

    fn former(number: u32) -> Former {
        let address = Address::v4(number.to_be_bytes());
        Former::Frontend(End { address, port: 80, protocol: Protocol::Tcp })
    }

    #[test]
    fn one_is_forgotten_at_the_second_call_after_it_went() {
        let mut retired = Retired::default();
        retired.add(former(1));
        assert_eq!(retired.forget(), []);
        retired.add(former(2));
        assert_eq!(retired.forget(), [former(1)]);
        assert_eq!(retired.forget(), [former(2)]);
        assert_eq!(retired.forget(), []);
    }

    #[test]
    fn one_that_came_back_is_not_forgotten_and_goes_anew() {
        let mut retired = Retired::default();
        retired.add(former(1));
        retired.forget();
        retired.revive(former(1));
        retired.add(former(1));
        assert_eq!(retired.forget(), [], "it went again since");
        assert_eq!(retired.forget(), [former(1)]);
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let mut retired = Retired::default();
        let max = u32::try_from(MAX).expect("fits");
        assert!((0..max).all(|number| retired.add(former(number)).is_none()));
        assert_eq!(retired.add(former(max)), Some(former(0)));
    }
}
