//! From a request to its answer.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State as Shared};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::failure::{Failure, Json};
use super::list::list;
use super::request::{Place, Query, Recorded, verb};
use super::resources::Resource;
use super::store::Key;
use super::watch::watch;
use super::{FakeApi, access, write};

/// Larger ones are no test's.
const BODY: usize = 16 << 20;
/// How long a request for a version from the future is held.
const HELD: Duration = Duration::from_secs(3);

pub(super) async fn answer(Shared(api): Shared<FakeApi>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY).await.unwrap_or_default();
    let request = Recorded {
        method: head.method.to_string(),
        path: head.uri.path().into(),
        query: head.uri.query().unwrap_or_default().into(),
        body: if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body)
                .unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into())
        },
    };
    api.lock().requests.push(request);
    let answered = api.answer(&head.method, &head.uri, &head.headers, &body).await;
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl FakeApi {
    async fn answer(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, Failure> {
        let refuse = self.lock().faults.refuse;
        if let Some(code) = refuse {
            return Err(Failure::trouble(code));
        }
        match uri.path() {
            "/version" => {
                return Ok(Json(json!({"major": "1", "minor": "36", "gitVersion": "v1.36.2"}))
                    .into_response());
            }
            "/readyz" | "/livez" | "/healthz" => return Ok("ok".into_response()),
            _ => {}
        }
        let user = self.lock().access.user(headers)?;
        let Some(place) = Place::parse(uri.path()) else {
            access::check_path(&user, uri.path())?;
            return Ok((StatusCode::NOT_FOUND, "404 page not found\n").into_response());
        };
        let unknown = self.lock().faults.unknown;
        let asks = place.plural.starts_with("selfsubject") && unknown != Some(&*place.plural);
        if method == Method::POST && asks {
            let review = read(body)?;
            let answer = match &*place.plural {
                "selfsubjectreviews" => access::who(&user),
                _ => access::review(&mut self.lock().store, &user, &review),
            };
            return Ok((StatusCode::CREATED, Json(answer)).into_response());
        }
        let query = Query::parse(uri);
        access::check(&mut self.lock().store, &user, verb(method, &place, &query), &place)?;
        let known = |resource: &&Resource| unknown != Some(resource.plural);
        let resource = place.resource().filter(known).ok_or_else(|| {
            let message = "the server could not find the requested resource";
            Failure::new(404, "NotFound", message).details(json!({}))
        })?;
        match *method {
            Method::GET => self.read(resource, place, query).await,
            _ => self.write(method, resource, &place, headers, body),
        }
    }

    async fn read(
        &self,
        resource: &'static Resource,
        place: Place,
        query: Query,
    ) -> Result<Response, Failure> {
        if let Some(key) = key(&place) {
            self.wait_for_version(&query).await?;
            let object = self.lock().store.get(resource, &key)?;
            return Ok(Json((*object).clone()).into_response());
        }
        if query.watch {
            let state = &mut *self.lock();
            if let Some(code) = state.faults.refuse_watches {
                return Err(Failure::trouble(code));
            }
            return watch(self, state, resource, place, query);
        }
        let mut waiter = self.waiter();
        while self.lock().faults.hold_lists == Some(resource.plural) {
            let clock = self.lock().clock;
            waiter.wait(clock, None).await;
        }
        self.wait_for_version(&query).await?;
        let state = &mut *self.lock();
        if let Some(code) = state.faults.later_pages.filter(|_| query.token.is_some()) {
            return Err(Failure::trouble(code));
        }
        list(&mut state.store, resource, &place, &query, state.faults.page)
    }

    /// Waits for a version that is not there yet, but not for ever.
    async fn wait_for_version(&self, query: &Query) -> Result<(), Failure> {
        let Some(version) = query.number()? else { return Ok(()) };
        let mut waiter = self.waiter();
        let end = self.lock().clock.now() + HELD;
        loop {
            waiter.see();
            let (current, clock) = {
                let state = self.lock();
                (state.store.version, state.clock)
            };
            if version <= current {
                return Ok(());
            }
            if clock.now() >= end {
                return Err(Failure::future(version, current));
            }
            waiter.wait(clock, Some(end)).await;
        }
    }

    fn write(
        &self,
        method: &Method,
        resource: &'static Resource,
        place: &Place,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, Failure> {
        let state = &mut *self.lock();
        let (store, part) = (&mut state.store, place.part.as_deref());
        let answer = match (method, key(place)) {
            (&Method::POST, None) => {
                let created =
                    write::create(store, resource, place.namespace.as_deref(), read(body)?)?;
                (StatusCode::CREATED, (*created).clone())
            }
            (&Method::PUT, Some(key)) => {
                let object = write::replace(store, resource, &key, part, read(body)?)?;
                (StatusCode::OK, (*object).clone())
            }
            (&Method::PATCH, Some(key)) => {
                let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                if kind != Some("application/merge-patch+json") {
                    let message = "415: Unsupported Media Type";
                    return Err(
                        Failure::new(415, "UnsupportedMediaType", message).details(json!({}))
                    );
                }
                let object = write::patch(store, resource, &key, part, &read(body)?)?;
                (StatusCode::OK, (*object).clone())
            }
            (&Method::DELETE, Some(key)) => (StatusCode::OK, write::delete(store, resource, &key)?),
            _ => return Err(Failure::new(405, "MethodNotAllowed", "not on this address")),
        };
        self.wake();
        Ok((answer.0, Json(answer.1)).into_response())
    }
}

fn key(place: &Place) -> Option<Key> {
    Some((place.namespace.clone().unwrap_or_default(), place.name.clone()?))
}

fn read(body: &Bytes) -> Result<Value, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::new(400, "BadRequest", format!("error decoding: {error}")))
}
