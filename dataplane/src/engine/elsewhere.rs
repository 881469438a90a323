//! Flows of other workers, remembered: finding out whose a flow is takes the whole classification, and the answer is the
//! same for every packet of the flow until the tables change.
//!
//! Invariants: no flow of this worker's connections is remembered, since whoever adds one forgets its flows. A cache:
//! what makes room is found out again. A flow is known by some bits of its keyed hash; when two share them, a frame goes
//! to the wrong worker, who does not ask here about frames that were handed over, finds out, and sends it on.

use std::hint::select_unpredictable;

use super::express::{Prepared, Sought};
use super::*;
use crate::conntrack::Lookup;
use crate::hash::high32;
use crate::prefetch::prefetch;

/// Flows of a line.
const WAYS: usize = 16;
/// A flow is the upper bits of its hash, and in these bits one more than the number of its worker.
const OWNER: u32 = 0x3ff;

/// One cache line; 0 is no flow.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u32; WAYS]);

/// The flows; no line for a worker without peers.
#[derive(Debug)]
pub(super) struct Elsewhere {
    lines: Box<[Line]>,
    /// What hashes are mixed with. New tables, new salt: nothing is known any more.
    salt: u32,
    versions: u64,
    /// Which flow of a line makes room next.
    next: usize,
}

impl Elsewhere {
    /// Room for about so many flows.
    pub(super) fn new(flows: usize) -> Self {
        let lines = vec![Line([0; WAYS]); flows.div_ceil(WAYS)].into();
        Self { lines, salt: 0, versions: 0, next: 0 }
    }

    #[inline]
    fn line(&self, hash: u64) -> usize {
        reduce(low32(hash), self.lines.len())
    }

    #[inline]
    fn mark(&self, hash: u64) -> u32 {
        (high32(hash) ^ self.salt) & !OWNER
    }

    /// Asks for the line of a flow.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.prefetch_line(self.line(hash));
    }

    #[inline]
    fn prefetch_line(&self, line: usize) {
        if let Some(line) = self.lines.get(line) {
            prefetch(line);
        }
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<u16> {
        let mark = self.mark(hash);
        let mut found = 0;
        // Without a branch: in which place a flow is, is beyond prediction.
        for entry in self.lines.get(self.line(hash))?.0 {
            found |= if entry & !OWNER == mark { entry & OWNER } else { 0 };
        }
        u16::try_from(found.checked_sub(1)?).ok()
    }

    fn remember(&mut self, hash: u64, owner: u16) {
        self.forget(hash);
        let (line, mark, owner) = (self.line(hash), self.mark(hash), u32::from(owner) + 1);
        if let Some(Line(entries)) = self.lines.get_mut(line)
            && owner <= OWNER
        {
            self.next = (self.next + 1) % WAYS;
            entries[self.next] = mark | owner;
        }
    }

    /// The flow is of a connection of this worker.
    #[inline]
    pub(super) fn forget(&mut self, hash: u64) {
        let (line, mark) = (self.line(hash), self.mark(hash));
        let entries = self.lines.get_mut(line).into_iter().flat_map(|Line(entries)| entries);
        entries.filter(|entry| **entry & !OWNER == mark).for_each(|entry| *entry = 0);
    }
}

impl Engine {
    /// The tables have changed: flows may have other owners.
    pub fn tables_changed(&mut self) {
        let elsewhere = &mut self.elsewhere;
        elsewhere.versions += 1;
        elsewhere.salt = high32(self.config.secret.pair(elsewhere.versions, 0));
    }

    /// Asks for what [`Self::elsewhere`] reads.
    #[inline]
    pub fn look_elsewhere(&self, prepared: &Prepared) {
        if let Some(Flow { hash, found, .. }) = Flow::of(prepared) {
            // Without a branch, as in the connection table.
            let line = select_unpredictable(found, 0, self.elsewhere.line(hash));
            self.elsewhere.prefetch_line(line);
        }
    }

    /// The other worker whose an ordinary packet is, if it was found out before for its flow.
    #[must_use]
    #[inline]
    pub fn elsewhere(&self, prepared: &Prepared) -> Option<u16> {
        let Flow { hash, found, flags } = Flow::of(prepared)?;
        if found || opens(flags) { None } else { self.elsewhere.find(hash) }
    }

    /// It was found out whose a flow is.
    pub(super) fn remember_elsewhere(&mut self, hash: u64, flags: u8, owner: u16) {
        if !opens(flags) {
            self.elsewhere.remember(hash, owner);
        }
    }
}

/// What is asked about an ordinary packet.
struct Flow {
    hash: u64,
    /// Whether it was found in the connection table at once.
    found: bool,
    flags: u8,
}

impl Flow {
    #[inline]
    fn of(prepared: &Prepared) -> Option<Self> {
        #[inline]
        fn flow<K>(Sought { lookup, flags, .. }: &Sought<K>) -> Option<Flow> {
            let Lookup { hash, .. } = *lookup;
            Some(Flow { hash, found: lookup.is_found(), flags: *flags })
        }
        match prepared {
            Prepared::V4(sought) => flow(sought),
            Prepared::V6(sought) => flow(sought),
            Prepared::Other => None,
        }
    }
}

/// Whether a packet may be another worker's than the rest of its flow: see [`classify::destination`].
#[inline]
fn opens(flags: u8) -> bool {
    flags & (SYN | ACK) == SYN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u16) -> u64 {
        u64::from(number) << 48 | 7
    }

    #[test]
    fn a_line_knows_its_latest_flows_until_the_salt_changes() {
        let mut flows = Elsewhere::new(WAYS);
        for number in 0..17 {
            assert_eq!(flows.find(hash(number)), None);
            flows.remember(hash(number), number);
        }
        assert_eq!(flows.find(hash(0)), None, "the oldest makes room");
        for number in 1..17 {
            assert_eq!(flows.find(hash(number)), Some(number));
        }
        flows.salt = 1 << 30;
        assert!((0..17).all(|number| flows.find(hash(number)).is_none()));
    }

    #[test]
    fn a_flow_has_one_owner_or_none() {
        let mut flows = Elsewhere::new(WAYS);
        flows.remember(hash(1), 5);
        flows.remember(hash(1), 2);
        assert_eq!(flows.find(hash(1)), Some(2));
        flows.forget(hash(1));
        assert_eq!(flows.find(hash(1)), None);
        // More workers than an entry can name.
        flows.remember(hash(1), 1023);
        assert_eq!(flows.find(hash(1)), None);
    }

    #[test]
    fn a_worker_without_peers_remembers_nothing() {
        let mut flows = Elsewhere::new(0);
        flows.remember(1, 1);
        assert_eq!(flows.find(1), None);
    }
}
