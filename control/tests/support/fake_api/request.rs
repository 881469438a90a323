//! What a request is about.

use axum::http::{Method, Uri};
use serde_json::Value;

use super::failure::Failure;
use super::resources::{self, Resource};
use super::selector::Selector;

/// A request as a test sees it afterwards.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) path: String,
    /// As sent.
    pub(crate) query: String,
    /// Null without one, a string if it is no JSON.
    pub(crate) body: Value,
}

/// The place a path names: a resource, one object of it, or a part of that.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) part: Option<String>,
}

impl Place {
    /// `None` for a path that is no resource's.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match &parts[..] {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, resource, rest @ ..] if *resource != "status" => {
                (Some((*namespace).to_owned()), [&[*resource], rest].concat())
            }
            rest => (None, rest.to_vec()),
        };
        let part = |index: usize| rest.get(index).map(|part| (*part).to_owned());
        Some(Self {
            group: group.into(),
            plural: part(0)?,
            namespace,
            name: part(1),
            part: part(2),
        })
    }

    pub(super) fn resource(&self) -> Option<&'static Resource> {
        resources::find(&self.group, &self.plural)
    }

    /// `services/status`, as roles name it.
    pub(super) fn resource_and_part(&self) -> String {
        match &self.part {
            Some(part) => format!("{}/{part}", self.plural),
            None => self.plural.clone(),
        }
    }
}

/// What roles call it.
pub(super) fn verb(method: &Method, place: &Place, query: &Query) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if place.name.is_some() => "get",
        _ if query.watch => "watch",
        _ => "list",
    }
}

/// The query of a list or watch.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) watch: bool,
    pub(super) limit: Option<usize>,
    pub(super) token: Option<String>,
    /// Absent and empty are the same.
    pub(super) version: Option<String>,
    pub(super) version_match: Option<String>,
    pub(super) timeout: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) initial_events: bool,
    pub(super) selector: Selector,
}

impl Query {
    pub(super) fn parse(uri: &Uri) -> Self {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let text = Some(value.to_string()).filter(|text| !text.is_empty());
            let set = matches!(&*value, "true" | "1");
            match &*key {
                "watch" => query.watch = set,
                "limit" => query.limit = value.parse().ok().filter(|limit| *limit > 0),
                "continue" => query.token = text,
                "resourceVersion" => query.version = text,
                "resourceVersionMatch" => query.version_match = text,
                "timeoutSeconds" => query.timeout = value.parse().ok(),
                "allowWatchBookmarks" => query.bookmarks = set,
                "sendInitialEvents" => query.initial_events = set,
                "labelSelector" => query.selector.labels(&value),
                "fieldSelector" => query.selector.fields(&value),
                // The empty pair that kube begins with, and what changes no answer here.
                _ => {}
            }
        }
        query
    }

    /// The version as a number; `None` if the client does not care.
    pub(super) fn number(&self) -> Result<Option<u64>, Failure> {
        let Some(text) = &self.version else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            let why = "strconv.ParseUint: parsing";
            let message = format!(
                "resourceVersion: Invalid value: \"{text}\": {why} \"{text}\": invalid syntax"
            );
            Failure::new(500, "", message)
        })?;
        Ok(Some(number))
    }
}
