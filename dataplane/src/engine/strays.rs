//! UDP flows that were moved away from their backend. What the backend still sends to their clients are late answers,
//! although nothing tells them from questions of its own.
//!
//! Known for a minute, by keyed hashes, in a bounded cache: of a line's flows the oldest makes room.

use crate::clock::Moment;
use crate::hash::{high32, low32, reduce};

/// How long late answers are known for what they are.
const SECONDS: u64 = 60;
const LINES: usize = 2048;
/// Flows of a line, which is a cache line.
const WAYS: usize = 8;

/// Flows from backends, a minute after their connections were moved.
#[derive(Debug)]
pub(super) struct Strays {
    lines: Box<[Line]>,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([Stray; WAYS]);

#[derive(Clone, Copy, Debug, Default)]
struct Stray {
    mark: u32,
    /// In seconds.
    until: u32,
}

impl Strays {
    pub(super) fn new() -> Self {
        Self { lines: vec![Line::default(); LINES].into() }
    }

    /// The flow of this hash is of a connection no longer.
    pub(super) fn add(&mut self, hash: u64, now: Moment) {
        let Line(line) = &mut self.lines[reduce(low32(hash), LINES)];
        let mark = high32(hash);
        let same = line.iter().position(|stray| stray.mark == mark);
        let oldest = || line.iter().enumerate().min_by_key(|(_, stray)| stray.until);
        let way = same.or_else(|| oldest().map(|(way, _)| way)).unwrap_or_default();
        line[way] = Stray { mark, until: seconds(now.after(SECONDS * 1000)) };
    }

    /// Whether the flow of this hash was of a connection lately.
    pub(super) fn contain(&self, hash: u64, now: Moment) -> bool {
        let Line(line) = &self.lines[reduce(low32(hash), LINES)];
        line.iter().any(|stray| stray.mark == high32(hash) && stray.until > seconds(now))
    }
}

fn seconds(moment: Moment) -> u32 {
    low32(moment.secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stray_is_known_for_a_minute() {
        let mut strays = Strays::new();
        let (hash, now) = (0x1234_5678_9abc_def0, Moment(5_000));
        assert!(!strays.contain(hash, now));
        strays.add(hash, now);
        assert!(strays.contain(hash, now.after(59_999)));
        assert!(!strays.contain(hash, now.after(60_000)));
        strays.add(hash, now.after(30_000));
        assert!(strays.contain(hash, now.after(60_000)));
    }

    #[test]
    fn the_oldest_of_a_line_makes_room() {
        let mut strays = Strays::new();
        let hash = |number: u64| number << 32 | 7;
        (1..=9).for_each(|number| strays.add(hash(number), Moment(number * 1_000)));
        let known = |number| strays.contain(hash(number), Moment(10_000));
        assert!(!known(1));
        assert!((2..=9).all(known));
    }
}
