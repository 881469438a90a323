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
    /// How many of the queue were there when this round of [`Retired::forget`] began.
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

    /// Those that were there when this round began, up to `limit` of them a call. None means that there are no more, and
    /// that the next round has begun.
    pub(super) fn forget(&mut self, limit: usize) -> Vec<Former> {
        let aged = std::iter::from_fn(|| (self.aged > 0).then(|| self.pop()));
        let forgotten: Vec<Former> = aged.flatten().take(limit).collect();
        if forgotten.is_empty() {
            self.aged = self.queue.len();
        }
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

    /// A round: all that is forgotten, in calls of one each.
    fn forget(retired: &mut Retired) -> Vec<Former> {
        let calls = std::iter::from_fn(|| Some(retired.forget(1)));
        calls.take_while(|forgotten| !forgotten.is_empty()).flatten().collect()
    }

    #[test]
    fn one_is_forgotten_in_the_second_round_after_it_went() {
        let mut retired = Retired::default();
        retired.add(former(1));
        assert_eq!(forget(&mut retired), []);
        retired.add(former(2));
        assert_eq!(forget(&mut retired), [former(1)]);
        assert_eq!(forget(&mut retired), [former(2)]);
        assert_eq!(forget(&mut retired), []);
    }

    #[test]
    fn a_call_forgets_no_more_than_it_may() {
        let mut retired = Retired::default();
        assert!((0..5).all(|number| retired.add(former(number)).is_none()));
        let counts: Vec<usize> = (0..5).map(|_| retired.forget(2).len()).collect();
        assert_eq!(counts, [0, 2, 2, 1, 0]);
    }

    #[test]
    fn one_that_came_back_is_not_forgotten_and_goes_anew() {
        let mut retired = Retired::default();
        retired.add(former(1));
        forget(&mut retired);
        retired.revive(former(1));
        retired.add(former(1));
        assert_eq!(forget(&mut retired), [], "it went again since");
        assert_eq!(forget(&mut retired), [former(1)]);
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let mut retired = Retired::default();
        let max = u32::try_from(MAX).expect("fits");
        assert!((0..max).all(|number| retired.add(former(number)).is_none()));
        assert_eq!(retired.add(former(max)), Some(former(0)));
    }
}
