//! Who asks, and what he may: tokens, and the roles among the server's objects.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

use super::failure::Failure;
use super::request::Place;
use super::resources;
use super::store::Store;

/// Users by name; each one's token is that name. `None`: everybody may do everything.
#[derive(Default)]
pub(super) struct Access(pub(super) Option<BTreeSet<String>>);

/// May do everything.
const ADMIN: &str = "admin";
/// Who sends no token.
pub(super) const ANONYMOUS: &str = "system:anonymous";

impl Access {
    pub(super) fn user(&self, headers: &HeaderMap) -> Result<String, Failure> {
        let Some(users) = &self.0 else { return Ok(ADMIN.into()) };
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(ANONYMOUS.into()) };
        let token = value.to_str().unwrap_or_default().trim_start_matches("Bearer ");
        if token == ADMIN || users.contains(token) {
            Ok(token.into())
        } else {
            Err(Failure::unauthorized())
        }
    }
}

/// Refuses what no role of the user allows.
pub(super) fn check(
    store: &mut Store,
    user: &str,
    verb: &str,
    place: &Place,
) -> Result<(), Failure> {
    if granted_by(store, user, verb, place).is_some() {
        return Ok(());
    }
    let full = resources::full_name(&place.plural, &place.group);
    let subject = match &place.name {
        Some(name) => format!("{full} \"{name}\""),
        None => full,
    };
    let scope = match &place.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".into(),
    };
    let message = format!(
        "{subject} is forbidden: User \"{user}\" cannot {verb} resource \"{}\" in API group \"{}\" {scope}",
        place.resource_and_part(),
        place.group
    );
    let mut details = json!({"kind": place.plural});
    if let Some(name) = &place.name {
        details["name"] = name.as_str().into();
    }
    if !place.group.is_empty() {
        details["group"] = place.group.as_str().into();
    }
    Err(Failure::new(403, "Forbidden", message).details(details))
}

/// A path that is no resource's: whether it exists is for the admin to know.
pub(super) fn check_path(user: &str, path: &str) -> Result<(), Failure> {
    if user == ADMIN {
        return Ok(());
    }
    let message = format!("forbidden: User \"{user}\" cannot get path \"{path}\"");
    Err(Failure::new(403, "Forbidden", message).details(json!({})))
}

/// Answers a SelfSubjectAccessReview.
pub(super) fn review(store: &mut Store, user: &str, review: &Value) -> Value {
    let mut attributes = review["spec"]["resourceAttributes"].clone();
    let text = |field: &str| {
        attributes[field].as_str().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
    };
    let place = Place {
        group: text("group").unwrap_or_default(),
        plural: text("resource").unwrap_or_default(),
        namespace: text("namespace"),
        name: text("name"),
        part: text("subresource"),
    };
    let by = granted_by(store, user, &text("verb").unwrap_or_default(), &place);
    if let Some(attributes) = attributes.as_object_mut() {
        attributes.retain(|_, value| value != "");
    }
    let mut status = json!({"allowed": by.is_some()});
    if let Some(by) = by {
        status["reason"] = by.into();
    }
    json!({"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
        "spec": {"resourceAttributes": attributes}, "status": status})
}

/// Answers a SelfSubjectReview.
pub(super) fn who(user: &str) -> Value {
    json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
        "status": {"userInfo": {"username": user, "uid": user, "groups": ["system:authenticated"]}}})
}

/// What allows it, in the server's words.
fn granted_by(store: &mut Store, user: &str, verb: &str, place: &Place) -> Option<String> {
    if user == ADMIN {
        return Some("RBAC: allowed by membership in \"system:masters\"".into());
    }
    for binding_kind in ["ClusterRoleBinding", "RoleBinding"] {
        for binding in objects(store, binding_kind) {
            let namespace = binding["metadata"]["namespace"].as_str();
            if namespace.is_some() && namespace != place.namespace.as_deref() {
                continue;
            }
            let role = &binding["roleRef"];
            if members(&binding).any(|member| member == user)
                && rules(store, role, namespace).iter().any(|rule| allows(rule, verb, place))
            {
                return Some(format!(
                    "RBAC: allowed by {binding_kind} {} of {} {} to User \"{user}\"",
                    binding["metadata"]["name"],
                    role["kind"].as_str().unwrap_or_default(),
                    role["name"]
                ));
            }
        }
    }
    None
}

fn members(binding: &Value) -> impl Iterator<Item = String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    binding["subjects"].as_array().into_iter().flatten().map(move |subject| {
        let name = text(&subject["name"]);
        if subject["kind"] == "ServiceAccount" {
            format!("system:serviceaccount:{}:{name}", text(&subject["namespace"]))
        } else {
            name
        }
    })
}

fn rules(store: &mut Store, role: &Value, namespace: Option<&str>) -> Vec<Value> {
    let kind = role["kind"].as_str().unwrap_or_default().to_owned();
    let at = |object: &Value| object["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
    objects(store, &kind)
        .into_iter()
        .filter(|object| object["metadata"]["name"] == role["name"])
        .filter(|object| kind == "ClusterRole" || at(object).as_deref() == namespace)
        .flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn allows(rule: &Value, verb: &str, place: &Place) -> bool {
    let has = |field: &str, wanted: &str| {
        let list = rule[field].as_array().into_iter().flatten();
        list.into_iter().any(|entry| entry == "*" || entry == wanted)
    };
    let named = match (rule["resourceNames"].as_array(), &place.name) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(_), Some(name)) => has("resourceNames", name),
    };
    has("verbs", verb)
        && has("apiGroups", &place.group)
        && has("resources", &place.resource_and_part())
        && named
}

fn objects(store: &mut Store, kind: &str) -> Vec<Value> {
    let Some(resource) = resources::of_kind(kind, Some("rbac.authorization.k8s.io/v1")) else {
        return Vec::new();
    };
    store.of(resource).objects.values().map(|object| (**object).clone()).collect()
}
