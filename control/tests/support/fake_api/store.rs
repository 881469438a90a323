//! All objects, and every change ever made to them, in the order of one counter.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::failure::Failure;
use super::resources::Resource;

/// Namespace (or nothing) and name.
pub(super) type Key = (String, String);
pub(super) type Objects = BTreeMap<Key, Arc<Value>>;

/// One step of a resource. Neither before nor after: a bookmark, sent when a test says so.
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
}

#[derive(Default)]
pub(super) struct Collection {
    pub(super) objects: Objects,
    pub(super) log: Vec<Change>,
}

pub(super) struct Store {
    /// Of the last change.
    pub(super) version: u64,
    /// Older versions are forgotten.
    pub(super) oldest: u64,
    collections: HashMap<(&'static str, &'static str), Collection>,
    uids: u64,
    cluster_ips: u8,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { version: 1000, oldest: 0, collections: HashMap::new(), uids: 0, cluster_ips: 0 }
    }

    pub(super) fn of(&mut self, resource: &'static Resource) -> &mut Collection {
        self.collections.entry((resource.group, resource.plural)).or_default()
    }

    pub(super) fn get(
        &mut self,
        resource: &'static Resource,
        key: &Key,
    ) -> Result<Arc<Value>, Failure> {
        let found = self.of(resource).objects.get(key).cloned();
        found.ok_or_else(|| Failure::not_found(resource, &key.1))
    }

    /// The objects as they were when the counter stood at `version`.
    pub(super) fn at(&mut self, resource: &'static Resource, version: u64) -> Objects {
        let collection = self.of(resource);
        let mut objects = collection.objects.clone();
        for change in collection.log.iter().rev().take_while(|change| change.version > version) {
            let Some(object) = change.before.as_ref().or(change.after.as_ref()) else { continue };
            match &change.before {
                Some(before) => objects.insert(key_of(object), before.clone()),
                None => objects.remove(&key_of(object)),
            };
        }
        objects
    }

    /// Writes an object, whatever was there.
    pub(super) fn put(&mut self, resource: &'static Resource, mut object: Value) -> Arc<Value> {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let (key, object) = (key_of(&object), Arc::new(object));
        let collection = self.of(resource);
        let before = collection.objects.insert(key, object.clone());
        collection.log.push(Change { version, before, after: Some(object.clone()) });
        object
    }

    /// Removes an object and returns its last state, with the version of the deletion.
    pub(super) fn remove(
        &mut self,
        resource: &'static Resource,
        key: &Key,
    ) -> Result<Arc<Value>, Failure> {
        let before = self.get(resource, key)?;
        self.version += 1;
        let version = self.version;
        let collection = self.of(resource);
        collection.objects.remove(key);
        let last = at_version(&before, version);
        collection.log.push(Change { version, before: Some(before), after: None });
        Ok(Arc::new(last))
    }

    /// Tells all watches of a resource the version.
    pub(super) fn bookmark(&mut self, resource: &'static Resource) -> u64 {
        self.version += 1;
        let version = self.version;
        self.of(resource).log.push(Change { version, before: None, after: None });
        version
    }

    /// Forgets all former versions.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.oldest = self.version;
        for collection in self.collections.values_mut() {
            collection.log.clear();
        }
    }

    /// Forgets how late it is, as when the store comes back from a backup: counts from the beginning again.
    pub(super) fn rewind(&mut self) {
        self.compact();
        self.version = 10;
        self.oldest = 0;
    }

    /// One that no Service has, unless a client chose it.
    pub(super) fn cluster_ip(&mut self) -> String {
        self.cluster_ips += 1;
        format!("10.96.250.{}", self.cluster_ips)
    }

    /// One that no object had.
    pub(super) fn uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012x}", self.uids)
    }
}

pub(super) fn key_of(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// The object with another version.
pub(super) fn at_version(object: &Value, version: u64) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = version.to_string().into();
    object
}

/// An object of the kind with nothing in it.
pub(super) fn empty(resource: &Resource, version: u64) -> Value {
    let mut object = json!({"kind": resource.kind, "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": version.to_string()}});
    let rest = match resource.kind {
        "Service" => json!({"spec": {}, "status": {"loadBalancer": {}}}),
        "EndpointSlice" => json!({"addressType": "", "endpoints": null, "ports": null}),
        _ => json!({}),
    };
    for (key, value) in rest.as_object().expect("written so") {
        object[key] = value.clone();
    }
    object
}
