//! What two servers may differ in: identities and times. Versions are compared by their order.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A copy without what is up to the server.
pub fn clean(body: &Value) -> Value {
    let mut body = body.clone();
    forget(&mut body);
    body
}

fn forget(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(forget),
        Value::Object(map) => {
            if let Some(metadata) = map.get_mut("metadata") {
                forget_metadata(metadata);
            }
            if map.get("kind") == Some(&json!("Status")) {
                map.shift_remove("message");
                forget_details(map.get_mut("details"));
            }
            map.values_mut().for_each(forget);
        }
        _ => {}
    }
}

fn forget_metadata(metadata: &mut Value) {
    let Some(map) = metadata.as_object_mut() else { return };
    for field in ["uid", "creationTimestamp", "managedFields", "resourceVersion"] {
        map.shift_remove(field);
    }
    for field in ["deletionTimestamp", "continue"] {
        if let Some(value) = map.get_mut(field) {
            *value = "some".into();
        }
    }
}

fn forget_details(details: Option<&mut Value>) {
    let Some(details) = details.and_then(Value::as_object_mut) else { return };
    details.shift_remove("uid");
    for cause in details.get_mut("causes").and_then(Value::as_array_mut).into_iter().flatten() {
        cause.as_object_mut().map(|cause| cause.shift_remove("message"));
    }
}

/// Versions seen at the same places of both: the recorded one, and ours.
#[derive(Default)]
pub struct Versions {
    /// Of objects.
    objects: BTreeMap<u64, u64>,
    /// Of lists and bookmarks: they say how late it was, and others may have written since the last object we know.
    moments: BTreeMap<u64, u64>,
}

impl Versions {
    /// Takes in a body and ours.
    pub fn take(&mut self, recorded: &Value, ours: &Value) -> Result<(), String> {
        let items = |body: &Value| body["items"].as_array().cloned().unwrap_or_default();
        for (recorded, ours) in items(recorded).iter().zip(&items(ours)) {
            self.take(recorded, ours)?;
        }
        let (Some(a), Some(b)) = (super::file::version(recorded), super::file::version(ours))
        else {
            return Ok(());
        };
        let is_moment = recorded.get("items").is_some() || recorded["metadata"]["name"].is_null();
        let map = if is_moment { &mut self.moments } else { &mut self.objects };
        match map.insert(a, b) {
            Some(former) if former != b => {
                return Err(format!("version {a} was {former} before, and is {b} now"));
            }
            _ => {}
        }
        let in_order = self.objects.values().is_sorted_by(|a, b| a < b)
            && self.moments.values().is_sorted()
            && self.moments.iter().all(|(moment, ours)| {
                self.objects.range(..=moment).all(|(_, object)| object <= ours)
            });
        if in_order { Ok(()) } else { Err(format!("version {b} is out of order")) }
    }

    /// What a recorded version is with us; one from the future stays that.
    pub fn ours(&self, recorded: u64) -> u64 {
        let known = self.moments.get(&recorded).or_else(|| self.objects.get(&recorded));
        known.copied().unwrap_or_else(|| {
            let before = |map: &BTreeMap<u64, u64>| {
                map.range(..recorded).next_back().map_or((0, 0), |(a, b)| (*a, *b))
            };
            let (a, b) = before(&self.moments).max(before(&self.objects));
            recorded - a + b
        })
    }
}

/// Where two bodies differ.
pub fn difference(at: &str, recorded: &Value, ours: &Value) -> Option<String> {
    match (recorded, ours) {
        _ if recorded == ours => None,
        (Value::Object(a), Value::Object(b)) => {
            let mut keys = a.keys().chain(b.keys());
            let get = |map: &serde_json::Map<String, Value>, key| {
                map.get(key).cloned().unwrap_or_else(|| "absent".into())
            };
            keys.find_map(|key| difference(&format!("{at}.{key}"), &get(a, key), &get(b, key)))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(index, (a, b))| difference(&format!("{at}[{index}]"), a, b)),
        _ => Some(format!("{at}: recorded {recorded}, ours {ours}")),
    }
}
