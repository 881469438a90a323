//! What was written without a request in the file: by controllers, or before the recording began.
//!
//! The fake has no controllers, so the comparison writes for them. It sees what they wrote in events and lists: whatever has a
//! version that no recorded answer to a write has.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::exempt;
use super::file::{Dir, Line, Transcript, version};

/// A write that nobody asked for.
#[derive(Clone, Debug)]
pub enum Write {
    Put(Value),
    Delete(Value),
}

/// The implied writes of a file that are still to be made, by version.
pub struct Implied {
    writes: BTreeMap<u64, Write>,
    /// Those seen in lists only.
    in_lists: BTreeSet<u64>,
}

impl Implied {
    pub fn of(file: &Transcript) -> Self {
        let (answered, deleted) = asked_for(file);
        let mut implied = Self { writes: BTreeMap::new(), in_lists: BTreeSet::new() };
        // What only an exempt request shows is in no form the fake has.
        let is_shown = |request: &&Line| request.changes() || !exempt::is_exempt(file, request);
        for request in file.requests().filter(is_shown) {
            for event in file.events(request.id) {
                let object = &event["object"];
                let by_request = deleted.contains(&address(request.place(), object));
                let write = match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => Write::Put(object.clone()),
                    Some("DELETED") if !by_request => Write::Delete(object.clone()),
                    _ => continue,
                };
                implied.writes.extend(version(object).map(|version| (version, write)));
            }
        }
        for request in file.requests().filter(is_shown) {
            let Some(body) = file.body(request.id).filter(|body| body["kind"] != "Status") else {
                continue;
            };
            if request.changes() {
                implied.add(body.clone());
            }
            let kind = body["kind"].as_str().unwrap_or_default().strip_suffix("List");
            for item in body["items"].as_array().into_iter().flatten() {
                let mut object = item.clone();
                object["kind"] = kind.into();
                object["apiVersion"] = body["apiVersion"].clone();
                let news = implied.add(object);
                implied.in_lists.extend(news);
            }
        }
        implied.writes.retain(|version, _| !answered.contains(version));
        implied
    }

    /// Takes in an object whose version is news, and returns that.
    fn add(&mut self, object: Value) -> Option<u64> {
        let version = version(&object)?;
        let Entry::Vacant(entry) = self.writes.entry(version) else { return None };
        entry.insert(Write::Put(object));
        Some(version)
    }

    /// Those up to a version, oldest first; they are not given out again.
    pub fn until(&mut self, version: u64) -> Vec<Write> {
        let later = self.writes.split_off(&(version + 1));
        std::mem::replace(&mut self.writes, later).into_values().collect()
    }

    /// The last version of those that only lists show: a note in the file tells of them.
    pub fn last_in_lists(&self) -> u64 {
        let waiting = |version: &&u64| self.writes.contains_key(version);
        self.in_lists.iter().rfind(waiting).copied().unwrap_or_default()
    }
}

/// Versions of what the requests write, and what they delete.
fn asked_for(file: &Transcript) -> (BTreeSet<u64>, BTreeSet<String>) {
    let (mut answered, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for (number, request) in file.lines.iter().enumerate() {
        if request.dir != Dir::Request
            || !request.changes()
            // What we don't ask for is written as it was answered.
            || exempt::is_exempt(file, request)
            || file.response(request.id).status >= 300
        {
            continue;
        }
        let body = file.body(request.id);
        match body {
            Some(body) => answered.extend(version(body)),
            None => answered.extend(first_sight(file, number)),
        }
        let finalizers = body.and_then(|body| body["metadata"]["finalizers"].as_array());
        if request.method == "DELETE" && finalizers.is_none_or(Vec::is_empty) {
            deleted.insert(request.place().to_owned());
        }
    }
    (answered, deleted)
}

/// The version of a write whose answer was not kept: the first of that object that is younger than all seen before.
fn first_sight(file: &Transcript, number: usize) -> Option<u64> {
    let write = &file.lines[number];
    let name = write.body.as_ref().and_then(|body| body["metadata"]["name"].as_str());
    let target = match (&*write.method, name) {
        ("POST", Some(name)) => format!("{}/{name}", write.place()),
        _ => write.place().trim_end_matches("/status").to_owned(),
    };
    let seen = |lines: &[Line], of: &dyn Fn(&str) -> bool| {
        let mut versions = BTreeSet::new();
        for line in lines.iter().filter(|line| line.dir == Dir::Chunk) {
            let place = file.request(line.id).place();
            let body = line.event.as_ref().map(|event| &event["object"]).or(line.body.as_ref());
            let Some(body) = body else { continue };
            let items = body["items"].as_array();
            let objects = items.map_or_else(|| vec![body], |items| items.iter().collect());
            let wanted = objects.into_iter().filter(|object| of(&address(place, object)));
            versions.extend(wanted.filter_map(version));
        }
        versions
    };
    let youngest = seen(&file.lines[..number], &|_| true).pop_last().unwrap_or_default();
    seen(&file.lines[number..], &|address| address == target).range(youngest + 1..).next().copied()
}

/// Where an object of a watched collection is.
fn address(place: &str, object: &Value) -> String {
    let (start, plural) = place.rsplit_once('/').expect("a path");
    let start = start.split("/namespaces/").next().unwrap_or_default();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{start}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{start}/{plural}/{name}"),
    }
}
