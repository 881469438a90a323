//! `/metrics` and the health pages over HTTP.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::node_health::ProxyHealth;
use super::{Admin, metrics};

/// Connections at a time; more wait for one to end.
const CONNECTIONS: usize = 64;
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection lives: a client can't keep its place by being slow.
const LIFETIME: Duration = Duration::from_secs(60);

/// What kube-proxy calls its mode (HCK-14).
const MODE: &str = "vipgate";

struct Pages {
    admin: Arc<Admin>,
    registry: Registry,
}

/// Answers clients, for ever.
pub(super) async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    answer(listener, router(admin), |_| ready(true).boxed()).await;
}

/// Answers clients of a listener at those of its addresses that serve, for ever.
pub(super) async fn answer(
    listener: TcpListener,
    router: Router,
    serves: impl Fn(IpAddr) -> BoxFuture<'static, bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the client left: others need some time to end.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(address) = stream.local_addr() else { continue };
        if !serves(address.ip().to_canonical()).await {
            continue;
        }
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
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/attractz", get(attractz))
        .route("/proxyMode", get(async || MODE))
        .with_state(Arc::new(Pages { admin, registry }))
}

async fn metrics(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    pages.admin.read_traffic().await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::encode(&pages.registry))
}

/// Whether a restart would help: neither a cable nor an API server is mended by one.
async fn livez(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let (healthy, health) = pages.admin.proxy_health();
    pages.admin.asked.livez(healthy);
    proxy_health(healthy, &health)
}

/// What a balancer asks kube-proxy: besides, whether the node stays (HCK-12).
async fn healthz(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let (healthy, mut health) = pages.admin.proxy_health();
    let eligible = pages.admin.leaving().is_none();
    health.node_eligible = Some(eligible);
    pages.admin.asked.healthz(healthy && eligible);
    proxy_health(healthy && eligible, &health)
}

fn proxy_health(healthy: bool, health: &ProxyHealth) -> impl IntoResponse + use<> {
    let body = serde_json::to_string(health).expect("plain data is JSON");
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (code(healthy), headers, body)
}

/// Whether routers should send traffic here, for the hooks of a routing daemon.
async fn attractz(State(pages): State<Arc<Pages>>) -> impl IntoResponse {
    let reasons = pages.admin.repulsions();
    let body = if reasons.is_empty() { "ok\n".to_owned() } else { reasons.join("\n") + "\n" };
    (code(reasons.is_empty()), body)
}

fn code(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn readyz(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> impl IntoResponse {
    let readiness = pages.admin.readiness();
    let code = code(readiness.ready);
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("application/json")) {
        let body = serde_json::to_string(&readiness).expect("plain data is JSON");
        return (code, [(header::CONTENT_TYPE, "application/json")], body);
    }
    let lines = readiness.checks.iter().map(|check| format!("{check}\n")).collect();
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], lines)
}
