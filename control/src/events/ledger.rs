//! Which findings are to be said now: pure, with time as an argument.
//!
//! A finding is said when it has been the case for as long as its reason asks, and again after [`REMIND`] as long as it
//! lasts, because API servers forget Events after an hour. One that comes and goes is said at most every [`AGAIN`].
//! All together share a bucket of tokens: what finds it empty waits its turn, and is never said if it is over by then.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Finding;

/// How often a lasting finding is said again.
pub(super) const REMIND: Duration = Duration::from_secs(30 * 60);
/// How often, at most, one is said that comes and goes; one that is gone for longer than that is forgotten.
pub(super) const AGAIN: Duration = Duration::from_secs(10 * 60);
/// So many may be said at once.
pub(super) const BURST: u32 = 30;
/// After that one in this time.
pub(super) const REFILL: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: BTreeMap<Finding, Entry>,
    tokens: u32,
    /// Since when the next token grows; the bucket is full when it is older than that takes.
    filled: Instant,
}

#[derive(Debug)]
struct Entry {
    /// Since when it is the case; `None` when it is over.
    since: Option<Instant>,
    /// Since when it is over.
    over: Option<Instant>,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    times: u32,
}

impl Ledger {
    /// Nothing was said yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { entries: BTreeMap::new(), tokens: BURST, filled: now }
    }

    /// These are all findings there are now.
    pub(super) fn observe(&mut self, findings: Vec<Finding>, now: Instant) {
        let mut former = std::mem::take(&mut self.entries);
        for finding in findings {
            let mut entry =
                former.remove(&finding).unwrap_or(Entry { since: None, over: None, said: None });
            entry.since.get_or_insert(now);
            entry.over = None;
            self.entries.insert(finding, entry);
        }
        // What is over is remembered for a while, so that its return is no news; what was never said need not be.
        former.retain(|_, entry| entry.said.is_some());
        for (finding, mut entry) in former {
            entry.since = None;
            entry.over.get_or_insert(now);
            self.entries.insert(finding, entry);
        }
    }

    /// The next to say and how often it will have been said then, if one is due and there is a token for it.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Finding, u32)> {
        self.refill(now);
        self.entries.retain(|_, entry| entry.over.is_none_or(|over| now - over < AGAIN));
        if self.tokens == 0 {
            return None;
        }
        let due = self.entries.iter().filter(|(finding, entry)| entry.is_due(finding, now));
        // Who waits for longest comes first.
        let (finding, entry) = due.min_by_key(|(_, entry)| entry.since)?;
        self.tokens -= 1;
        Some((finding.clone(), entry.said.as_ref().map_or(1, |said| said.times + 1)))
    }

    /// It was said, or there is no point in saying it.
    pub(super) fn said(&mut self, finding: &Finding, now: Instant) {
        if let Some(entry) = self.entries.get_mut(finding) {
            let times = entry.said.as_ref().map_or(1, |said| said.times + 1);
            entry.said = Some(Said { at: now, times });
        }
    }

    fn refill(&mut self, now: Instant) {
        let grown = (now - self.filled).as_nanos() / REFILL.as_nanos();
        match u32::try_from(grown) {
            Ok(grown) if grown < BURST - self.tokens => {
                self.tokens += grown;
                self.filled += REFILL * grown;
            }
            _ => {
                self.tokens = BURST;
                self.filled = now;
            }
        }
    }
}

impl Entry {
    fn is_due(&self, finding: &Finding, now: Instant) -> bool {
        let Some(since) = self.since else { return false };
        let is_lasting = now - since >= finding.reason.patience();
        match &self.said {
            None => is_lasting,
            // It came back.
            Some(said) if since > said.at => is_lasting && now - said.at >= AGAIN,
            Some(said) => now - said.at >= REMIND,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EventReason;
    use super::*;
    use crate::object::{Kind, ObjectKey};

    fn finding(name: &str, reason: EventReason) -> Finding {
        let about = ObjectKey::named(Kind::Service, None, name);
        Finding { about, uid: None, reason, note: "text".into() }
    }

    fn conflicts(names: &[&str]) -> Vec<Finding> {
        names.iter().map(|name| finding(name, EventReason::VipConflict)).collect()
    }

    /// Says all that can be said now: names, and how often each was said.
    fn say(ledger: &mut Ledger, now: Instant) -> Vec<(String, u32)> {
        let mut told = Vec::new();
        while let Some((finding, times)) = ledger.next(now) {
            ledger.said(&finding, now);
            told.push((finding.about.name.name().to_owned(), times));
        }
        told
    }

    #[test]
    fn the_same_is_said_once_and_again_while_it_lasts() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        for look in 0..600 {
            let now = start + Duration::from_secs(look);
            ledger.observe(conflicts(&["a"]), now);
            let expected: &[_] = if look == 0 { &[("a".into(), 1)] } else { &[] };
            assert_eq!(say(&mut ledger, now), expected, "after {look} s");
        }
        ledger.observe(conflicts(&["a"]), start + REMIND);
        assert_eq!(say(&mut ledger, start + REMIND), [("a".into(), 2)]);
        // Another text is another finding.
        let other = Finding { note: "other".into(), ..conflicts(&["a"]).remove(0) };
        ledger.observe(vec![other], start + REMIND);
        assert_eq!(say(&mut ledger, start + REMIND), [("a".into(), 1)]);
    }

    #[test]
    fn what_comes_and_goes_is_said_now_and_then() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let mut told = Vec::new();
        for second in 0..1800 {
            let now = start + Duration::from_secs(second);
            ledger.observe(if second % 2 == 0 { conflicts(&["a"]) } else { Vec::new() }, now);
            told.extend(say(&mut ledger, now));
        }
        assert_eq!(told, [("a".into(), 1), ("a".into(), 2), ("a".into(), 3)]);
        // Gone for long, it is forgotten.
        assert_eq!(say(&mut ledger, start + REMIND * 2), []);
        assert_eq!(ledger.entries.len(), 0);
    }

    #[test]
    fn what_may_pass_by_itself_is_given_time() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let empty = || vec![finding("a", EventReason::NoReadyEndpoints)];
        let patience = EventReason::NoReadyEndpoints.patience();
        ledger.observe(empty(), start);
        assert_eq!(say(&mut ledger, start), []);
        // It passed, and begins anew.
        ledger.observe(Vec::new(), start + patience / 2);
        ledger.observe(empty(), start + patience);
        assert_eq!(say(&mut ledger, start + patience), []);
        ledger.observe(empty(), start + patience * 2);
        assert_eq!(say(&mut ledger, start + patience * 2), [("a".into(), 1)]);
    }

    #[test]
    fn all_share_one_rate_and_what_is_over_is_not_said() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        let names: Vec<String> = (0..100).map(|n| format!("s{n:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        ledger.observe(conflicts(&names), start);
        assert_eq!(say(&mut ledger, start).len(), BURST as usize);
        ledger.observe(conflicts(&names), start + REFILL * 5);
        let next = say(&mut ledger, start + REFILL * 5);
        assert_eq!((next.len(), next[0].0.as_str()), (5, "s030"));
        // The rest clears up before its turn.
        ledger.observe(conflicts(&names[..40]), start + REFILL * 100);
        assert_eq!(say(&mut ledger, start + REFILL * 100).len(), 5);
        assert_eq!(ledger.entries.len(), 40, "what was said is remembered, what was not is gone");
    }
}
