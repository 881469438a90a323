//! Create, replace, patch, delete: what they check, and what they leave alone.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::defaults::fill_in;
use super::failure::Failure;
use super::resources::{self, Resource};
use super::store::{Key, Store, key_of};

/// Creates an object.
pub(super) fn create(
    store: &mut Store,
    resource: &'static Resource,
    namespace: Option<&str>,
    mut object: Value,
) -> Result<Arc<Value>, Failure> {
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
        let namespaces = resources::find("", "namespaces").expect("known");
        store.get(namespaces, &(String::new(), namespace.into()))?;
    }
    let uid = store.uid();
    if let (None, Some(start)) =
        (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str())
    {
        let name = format!("{start}{}", &uid[uid.len() - 5..]);
        object["metadata"]["name"] = name.into();
    }
    let key = key_of(&object);
    if store.get(resource, &key).is_ok() {
        return Err(Failure::exists(resource, &key.1));
    }
    object["kind"] = resource.kind.into();
    object["apiVersion"] = resource.api_version().into();
    let metadata = &mut object["metadata"];
    metadata["uid"] = uid.into();
    metadata["creationTimestamp"] = now().into();
    if resource.generation {
        metadata["generation"] = 1.into();
    }
    let spec = &object["spec"];
    if resource.kind == "Service"
        && spec.get("clusterIP").is_none()
        && spec["type"] != "ExternalName"
    {
        object["spec"]["clusterIP"] = store.cluster_ip().into();
    }
    fill_in(&mut object);
    Ok(store.put(resource, object))
}

/// Replaces an object, or one part of it.
pub(super) fn replace(
    store: &mut Store,
    resource: &'static Resource,
    key: &Key,
    part: Option<&str>,
    wanted: Value,
) -> Result<Arc<Value>, Failure> {
    let before = store.get(resource, key)?;
    let version = wanted["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !version.is_empty() && before["metadata"]["resourceVersion"] != version {
        return Err(Failure::conflict(resource, &key.1));
    }
    let mut after = wanted;
    if part == Some("status") {
        let mut whole = (*before).clone();
        whole["metadata"] = after["metadata"].take();
        take_over(&mut whole, &after, "status");
        after = whole;
    } else if resource.status {
        take_over(&mut after, &before, "status");
    }
    for field in ["kind", "apiVersion"] {
        after[field] = before[field].clone();
    }
    // What the server has decided stays.
    let decided = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    for field in decided.iter().chain(&["deletionTimestamp", "generation"]) {
        take_over(&mut after["metadata"], &before["metadata"], field);
    }
    fill_in(&mut after);
    if after == *before {
        return Ok(before);
    }
    let without_metadata = |object: &Value| {
        let mut object = object.clone();
        object["metadata"] = Value::Null;
        object
    };
    if resource.generation && without_metadata(&after) != without_metadata(&before) {
        let generation = before["metadata"]["generation"].as_u64().unwrap_or_default();
        after["metadata"]["generation"] = (generation + 1).into();
    }
    if is_leaving(&after) && !has_finalizers(&after) {
        return store.remove(resource, key);
    }
    Ok(store.put(resource, after))
}

/// Merges a patch into an object (RFC 7396), or into one part of it.
pub(super) fn patch(
    store: &mut Store,
    resource: &'static Resource,
    key: &Key,
    part: Option<&str>,
    patch: &Value,
) -> Result<Arc<Value>, Failure> {
    let mut wanted = (*store.get(resource, key)?).clone();
    merge(&mut wanted, patch);
    replace(store, resource, key, part, wanted)
}

/// Deletes an object, or says that it shall go once its finalizers have.
pub(super) fn delete(
    store: &mut Store,
    resource: &'static Resource,
    key: &Key,
) -> Result<Value, Failure> {
    let before = store.get(resource, key)?;
    if has_finalizers(&before) {
        if is_leaving(&before) {
            return Ok((*before).clone());
        }
        let mut leaving = (*before).clone();
        leaving["metadata"]["deletionTimestamp"] = now().into();
        leaving["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        return Ok((*store.put(resource, leaving)).clone());
    }
    let last = store.remove(resource, key)?;
    if resource.deletion_shows_object {
        return Ok((*last).clone());
    }
    let mut details =
        json!({"name": key.1, "kind": resource.plural, "uid": last["metadata"]["uid"]});
    if !resource.group.is_empty() {
        details["group"] = resource.group.into();
    }
    Ok(
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    )
}

fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let into = into.as_object_mut().expect("made so");
    for (key, value) in patch {
        if value.is_null() {
            into.shift_remove(key);
        } else {
            merge(into.entry(key).or_insert(Value::Null), value);
        }
    }
    // The server writes no empty maps of labels and annotations.
    for key in ["labels", "annotations"] {
        if into.get(key).is_some_and(|value| value.as_object().is_some_and(|map| map.is_empty())) {
            into.shift_remove(key);
        }
    }
}

/// Makes a field what it is in `from`.
fn take_over(into: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => into[field] = value.clone(),
        None => {
            into.as_object_mut().map(|into| into.shift_remove(field));
        }
    }
}

fn is_leaving(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
}

fn now() -> String {
    format!("{:.0}", Timestamp::now())
}
