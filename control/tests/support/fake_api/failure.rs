//! What goes wrong, as the `Status` bodies the API server writes.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::resources::{Resource, full_name};

/// A refusal.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u16,
    retry_after: Option<u64>,
    body: Box<Value>,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let mut body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {},
            "status": "Failure", "message": message.into(), "code": code});
        if !reason.is_empty() {
            body["reason"] = reason.into();
        }
        Self { code, retry_after: None, body: body.into() }
    }

    fn about(self, resource: &Resource, name: &str) -> Self {
        let mut details = json!({"name": name, "kind": resource.plural});
        if !resource.group.is_empty() {
            details["group"] = resource.group.into();
        }
        self.details(details)
    }

    pub(super) fn details(mut self, details: Value) -> Self {
        self.body["details"] = details;
        self
    }

    /// Where a list may go on.
    pub(super) fn token(mut self, token: String) -> Self {
        self.body["metadata"]["continue"] = token.into();
        self
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", resource.full_name());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub(super) fn exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", resource.full_name());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(super) fn conflict(resource: &Resource, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes to the latest version and try again",
            resource.full_name()
        );
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// An object or a query that can't be; `causes` are reason, field, message.
    pub(super) fn invalid(
        kind: &str,
        group: &str,
        name: &str,
        causes: &[(&'static str, &str, &str)],
    ) -> Self {
        let texts: Vec<String> =
            causes.iter().map(|(_, field, message)| format!("{field}: {message}")).collect();
        let message =
            format!("{} \"{name}\" is invalid: {}", full_name(kind, group), texts.join(", "));
        let causes: Vec<Value> = causes
            .iter()
            .map(|(reason, field, message)| json!({"reason": reason, "message": message, "field": field}))
            .collect();
        let mut details = json!({"kind": kind, "causes": causes});
        for (key, value) in [("name", name), ("group", group)] {
            if !value.is_empty() {
                details[key] = value.into();
            }
        }
        Self::new(422, "Invalid", message).details(details)
    }

    /// The version asked for is not there yet.
    pub(super) fn future(asked: u64, current: u64) -> Self {
        let cause =
            json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Self {
            retry_after: Some(1),
            ..Self::new(504, "Timeout", message)
                .details(json!({"causes": [cause], "retryAfterSeconds": 1}))
        }
    }

    /// The version asked for is forgotten.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// A server in trouble.
    pub(super) fn trouble(code: u16) -> Self {
        let reason = match code {
            401 => return Self::unauthorized(),
            403 => "Forbidden",
            410 => "Expired",
            500 => "InternalError",
            504 => "Timeout",
            _ => "ServiceUnavailable",
        };
        let retry_after = (code == 429).then_some(1);
        Self { retry_after, ..Self::new(code, reason, "as told") }
    }

    /// Throttling comes before all that knows of Status objects.
    fn is_plain(&self) -> bool {
        self.code == 429
    }

    /// The object of an ERROR event.
    pub(super) fn body(&self) -> &Value {
        &self.body
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).expect("a status");
        let mut response = if self.is_plain() {
            (code, "Too many requests, please try again later.\n").into_response()
        } else {
            (code, Json(*self.body)).into_response()
        };
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == 403 {
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        response
    }
}

/// A JSON body. (axum's own comes with a feature that the product does not need.)
pub(super) struct Json(pub(super) Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0.to_string()).into_response()
    }
}
