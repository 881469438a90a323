//! Lists: in pages, at the version of their first page.

use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::failure::{Failure, Json};
use super::request::{Place, Query};
use super::resources::Resource;
use super::store::{Key, Objects, Store};

/// Where a page begins: the version of the list (none: the present one), and the last key of the page before.
struct Token {
    version: Option<u64>,
    after: Key,
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '~');
        let version = parts.next()?;
        let version =
            if version == "now" { None } else { Some(version.strip_prefix('v')?.parse().ok()?) };
        Some(Self { version, after: (parts.next()?.into(), parts.next()?.into()) })
    }

    fn text(version: Option<u64>, after: &Key) -> String {
        let version = version.map_or_else(|| "now".into(), |version| format!("v{version}"));
        format!("{version}~{}~{}", after.0, after.1)
    }
}

/// One page of a list; `size` is the server's own limit.
pub(super) fn list(
    store: &mut Store,
    resource: &'static Resource,
    place: &Place,
    query: &Query,
    size: Option<usize>,
) -> Result<Response, Failure> {
    refuse_watch_options(query)?;
    let asked = query.number()?;
    let exact = query.version_match.as_deref() == Some("Exact");
    let token = match &query.token {
        None => None,
        Some(text) => Some(Token::parse(text).ok_or_else(|| {
            Failure::new(400, "BadRequest", "invalid continue token: continue key is not valid")
        })?),
    };
    let at = match &token {
        Some(Token { version: Some(version), after }) if *version < store.oldest => {
            let message =
                "The provided continue parameter is too old to display a consistent list result.";
            return Err(Failure::expired(message).token(Token::text(None, after)));
        }
        Some(token) => token.version.unwrap_or(store.version),
        None if exact && asked.is_some_and(|asked| asked < store.oldest) => {
            let message = "The resourceVersion for the provided list is too old.";
            return Err(Failure::expired(message));
        }
        None if exact => asked.unwrap_or(store.version),
        None => store.version,
    };
    let all: Objects = store
        .at(resource, at)
        .into_iter()
        .filter(|(key, object)| fits(place, query, key, object))
        .filter(|(key, _)| token.as_ref().is_none_or(|token| *key > token.after))
        .collect();
    // Version 0 is answered from a cache that knows no pages.
    let asked_size = query.limit.filter(|_| asked != Some(0));
    let size = size.or(asked_size).unwrap_or(usize::MAX);
    let items: Vec<Value> = all.values().take(size).map(|object| item(object)).collect();
    let mut metadata = json!({"resourceVersion": at.to_string()});
    let rest = all.len() - items.len();
    if rest > 0 {
        let last = all.keys().nth(size - 1).expect("there are more");
        metadata["continue"] = Token::text(Some(at), last).into();
        // Counting what a selector leaves is too much work.
        if query.selector.is_empty() {
            metadata["remainingItemCount"] = rest.into();
        }
    }
    let kind = format!("{}List", resource.kind);
    let body = json!({"kind": kind, "apiVersion": resource.api_version(), "metadata": metadata, "items": items});
    Ok(Json(body).into_response())
}

/// Whether a list or watch shows an object.
pub(super) fn fits(place: &Place, query: &Query, key: &Key, object: &Value) -> bool {
    place.namespace.as_ref().is_none_or(|namespace| *namespace == key.0)
        && query.selector.fits(object)
}

fn refuse_watch_options(query: &Query) -> Result<(), Failure> {
    if !query.initial_events {
        return Ok(());
    }
    let mut causes = Vec::new();
    if query.version_match.is_some() && query.version.is_none() {
        let why = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        causes.push(("FieldValueForbidden", "resourceVersionMatch", why));
    }
    let why = "Forbidden: sendInitialEvents is forbidden for list";
    causes.push(("FieldValueForbidden", "sendInitialEvents", why));
    Err(Failure::invalid("ListOptions", "meta.k8s.io", "", &causes))
}

/// Items of a list don't say their kind.
fn item(object: &Value) -> Value {
    let mut object = object.clone();
    let fields = object.as_object_mut().expect("an object");
    fields.shift_remove("kind");
    fields.shift_remove("apiVersion");
    object
}
