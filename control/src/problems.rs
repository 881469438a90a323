//! All that is wrong with the objects now, and whether that is news.
//!
//! Saying the same again is none, so that whoever tells people looks at the list only when there is something to tell.

use std::collections::BTreeMap;

use crate::object::{Kind, ObjectKey, ObjectName, Problem};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    /// From files, as a whole.
    files: Vec<Problem>,
    objects: BTreeMap<ObjectKey, Vec<Problem>>,
    conflicts: BTreeMap<ObjectName, Vec<Problem>>,
    /// By who found them.
    found: BTreeMap<&'static str, Vec<Problem>>,
    count: usize,
    /// How often they have changed.
    changes: u64,
    /// That at the last call of [`Self::are_news`].
    told: u64,
}

impl Problems {
    /// All that is wrong with the files.
    pub(crate) fn set_files(&mut self, problems: Vec<Problem>) {
        if problems != self.files {
            self.count = self.count + problems.len() - self.files.len();
            self.files = problems;
            self.changes += 1;
        }
    }

    /// All that is wrong with an object by itself.
    pub(crate) fn set_object(&mut self, key: &ObjectKey, problems: Vec<Problem>) {
        let changed = set(&mut self.objects, key, problems, &mut self.count);
        self.changes += u64::from(changed);
    }

    /// Frontends of a Service that others own, and addresses that it may not have.
    pub(crate) fn set_conflicts(&mut self, service: &ObjectName, conflicts: Vec<Problem>) {
        let changed = set(&mut self.conflicts, service, conflicts, &mut self.count);
        self.changes += u64::from(changed);
    }

    /// What somebody who watches has found, as a whole.
    pub(crate) fn set_found(&mut self, by: &'static str, problems: Vec<Problem>) {
        let changed = set(&mut self.found, &by, problems, &mut self.count);
        self.changes += u64::from(changed);
    }

    /// All that is wrong with all objects of a kind.
    pub(crate) fn reset(&mut self, kind: Kind, problems: BTreeMap<ObjectKey, Vec<Problem>>) {
        let former = self.objects.keys().filter(|key| key.kind == kind);
        let gone: Vec<ObjectKey> =
            former.filter(|key| !problems.contains_key(*key)).cloned().collect();
        for key in gone {
            self.set_object(&key, Vec::new());
        }
        for (key, problems) in problems {
            self.set_object(&key, problems);
        }
    }

    /// Files first, then objects, contested addresses, and what was found.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Problem> {
        let Self { files, objects, conflicts, found, .. } = self;
        let objects = objects.values().chain(conflicts.values()).chain(found.values());
        files.iter().chain(objects.flatten())
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether they differ from what they were at the last call.
    pub(crate) fn are_news(&mut self) -> bool {
        std::mem::replace(&mut self.told, self.changes) != self.changes
    }

    /// How often they have changed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }
}

/// Returns whether that is another list than before.
fn set<K: Ord + Clone>(
    all: &mut BTreeMap<K, Vec<Problem>>,
    key: &K,
    problems: Vec<Problem>,
    count: &mut usize,
) -> bool {
    let former = all.get(key).map_or(&[][..], Vec::as_slice);
    if problems == former {
        return false;
    }
    *count = *count + problems.len() - former.len();
    if problems.is_empty() {
        all.remove(key);
    } else {
        all.insert(key.clone(), problems);
    }
    true
}
