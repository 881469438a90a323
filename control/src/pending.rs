//! Services that are to be compiled next, why, and which of them had better wait a little.
//!
//! A Service waits for an endpoint that may be on its way from one slice to another (EPS-8), until it has arrived or for
//! [`MOVE`] at most, whatever else happens to the Service meanwhile. No I/O; time is an argument.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use crate::object::ObjectName;
use crate::publish::Causes;
use crate::state::Changed;

/// How long an endpoint may be on its way: a few round trips of the controller that writes the two slices one after the
/// other. A true departure is delayed by as much, if it comes without notice and the Service has several slices; pods
/// that end are said to be terminating first, which is served at once.
pub(crate) const MOVE: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Services whose rows may differ now.
    dirty: BTreeMap<ObjectName, Causes>,
    /// Those of them that wait, and until when.
    waiting: HashMap<ObjectName, (Instant, Causes)>,
    /// The same times, soonest first. One that need not wait any more is no longer in `waiting`.
    due: VecDeque<(Instant, ObjectName)>,
}

impl Pending {
    /// These may differ now, because of what arrived then.
    pub(crate) fn add(
        &mut self,
        changed: Changed,
        arrived: Option<Instant>,
        trigger: Option<Timestamp>,
    ) {
        for name in changed {
            let causes = Causes { arrived, triggers: trigger.into_iter().collect() };
            self.dirty.entry(name).or_default().join(causes);
        }
    }

    /// Takes those that can be compiled now: all but those that have `reason` to wait and have not waited long enough.
    pub(crate) fn ripe(
        &mut self,
        now: Instant,
        reason: impl Fn(&ObjectName) -> bool,
    ) -> BTreeMap<ObjectName, Causes> {
        let mut ripe = BTreeMap::new();
        for (name, mut causes) in std::mem::take(&mut self.dirty) {
            let waited = self.waiting.remove(&name);
            let until = waited.map(|(until, before)| {
                causes.join(before);
                until
            });
            if reason(&name) {
                let until = until.unwrap_or_else(|| {
                    self.due.push_back((now + MOVE, name.clone()));
                    now + MOVE
                });
                self.waiting.insert(name, (until, causes));
            } else {
                ripe.insert(name, causes);
            }
        }
        while self.due().is_some_and(|until| until <= now)
            && let Some((until, name)) = self.due.pop_front()
        {
            if let Entry::Occupied(waits) = self.waiting.entry(name)
                && waits.get().0 == until
            {
                let (name, (_, causes)) = waits.remove_entry();
                ripe.insert(name, causes);
            }
        }
        ripe
    }

    /// Takes them all.
    pub(crate) fn all(&mut self) -> BTreeMap<ObjectName, Causes> {
        self.due.clear();
        let mut all = std::mem::take(&mut self.dirty);
        for (name, (_, causes)) in self.waiting.drain() {
            all.entry(name).or_default().join(causes);
        }
        all
    }

    /// When the first of those that wait has waited long enough.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.front().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(pending: &mut Pending, name: &str, arrived: Instant) {
        let name = ObjectName::new("ns", name);
        pending.add([name].into(), Some(arrived), None);
    }

    /// The names that are ripe, each with how long ago it was heard of.
    fn ripe(pending: &mut Pending, now: Instant, waits: &[&str]) -> Vec<(String, Duration)> {
        let ripe = pending.ripe(now, |name| waits.contains(&name.name()));
        let age = |causes: Causes| now - causes.arrived.expect("noted");
        ripe.into_iter().map(|(name, causes)| (name.name().to_owned(), age(causes))).collect()
    }

    #[test]
    fn who_has_no_reason_to_wait_does_not() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        add(&mut pending, "a", start);
        assert_eq!(ripe(&mut pending, start, &["b"]), [("a".into(), Duration::ZERO)]);
        assert_eq!(ripe(&mut pending, start, &[]), []);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn eps_8_who_waits_is_ripe_when_the_reason_is_gone_or_the_time_is_up() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        let half = start + MOVE / 2;
        for name in ["a", "b"] {
            add(&mut pending, name, start);
        }
        assert_eq!(ripe(&mut pending, start, &["a", "b"]), []);
        // More news of one that waits, and they end its reason.
        add(&mut pending, "a", half);
        assert_eq!(ripe(&mut pending, half, &["b"]), [("a".into(), MOVE / 2)]);
        // More news of one that waits do not make it wait longer.
        add(&mut pending, "b", half);
        assert_eq!(ripe(&mut pending, half, &["b"]), []);
        assert_eq!(pending.due(), Some(start + MOVE));
        assert_eq!(ripe(&mut pending, start + MOVE, &["b"]), [("b".into(), MOVE)]);
        assert_eq!(ripe(&mut pending, start + MOVE * 9, &[]), []);
    }

    #[test]
    fn each_waits_its_own_time() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        let later = start + MOVE / 2;
        add(&mut pending, "a", start);
        assert_eq!(ripe(&mut pending, start, &["a"]), []);
        add(&mut pending, "a", later);
        assert_eq!(ripe(&mut pending, later, &[]).len(), 1);
        // It goes again: what it waited for before does not count.
        for name in ["a", "b"] {
            add(&mut pending, name, later);
        }
        assert_eq!(ripe(&mut pending, later, &["a", "b"]), []);
        assert_eq!(ripe(&mut pending, start + MOVE, &[]), []);
        assert_eq!(ripe(&mut pending, later + MOVE, &[]).len(), 2);
    }

    #[test]
    fn all_are_taken_whatever_they_wait_for() {
        let (mut pending, start) = (Pending::default(), Instant::now());
        add(&mut pending, "a", start);
        assert_eq!(ripe(&mut pending, start, &["a"]), []);
        add(&mut pending, "b", start);
        assert_eq!(pending.all().len(), 2);
        assert_eq!((pending.all().len(), pending.due()), (0, None));
    }
}
