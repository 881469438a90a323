//! `/metrics`, `/livez` and `/readyz` over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::{Admin, metrics};

/// Connections at a time; more wait for one to end.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection lives: a client can't keep its place by being slow.
const LIFETIME: Duration = Duration::from_secs(60);

struct Pages {
    admin: Arc<Admin>,
    registry: Registry,
}

/// Answers clients, for ever.
pub(super) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let router = router(admin);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the client left: others need some time to end.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_headers(64);
            // A client that misbehaves is cut off; there is nobody to tell.
            let _ = timeout(LIFETIME, http.serve_connection(TokioIo::new(stream), service)).await;
            drop(place);
        });
    }
}

fn router(admin: Arc<Admin>) -> Router {
    let registry = metrics::registry(admin.clone());
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(Pages { admin, registry }))
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::encode(&pages.registry))
}

/// The control task answers, so it lives. Nothing else counts: a restart mends neither a cable nor an API server.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> impl IntoResponse {
    let readiness = pages.admin.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        let body = serde_json::to_string(&readiness).expect("plain data is JSON");
        return (code, [(header::CONTENT_TYPE, "application/json")], body);
    }
    let lines = readiness.checks.iter().map(|check| format!("{check}\n")).collect();
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines)
}
