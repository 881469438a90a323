//! Health check node ports: where a load balancer asks whether this node has endpoints of a Service (HCK-1 to HCK-9).
//!
//! One listener for each Service of type LoadBalancer with external policy Local, and family. It is opened, renumbered and
//! closed when the objects say so. It listens on every address, and answers only at those that serve node ports (HCK-2) and
//! on loopback: addresses come and go, listeners need not.

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures::FutureExt;
use nix::sys::socket::{setsockopt, sockopt::Ipv6V6Only};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use tracing::info;

use super::{Admin, http};
use crate::control::{Ended, Update, View};
use crate::object::{Kind, ObjectKey, ObjectName, Problem, Reason};
use crate::settings::{Role, Settings};
use crate::state::State;

/// After a look at the objects the next one is no sooner, however much happens.
const PAUSE: Duration = Duration::from_millis(50);
/// After it a port that was taken is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// What is to be answered where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Check {
    service: ObjectName,
    v4: bool,
    port: u16,
}

/// A listener at work.
struct Listening {
    endpoints: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
}

/// Opens and closes listeners, for ever.
pub(super) async fn serve(admin: Arc<Admin>) {
    let mut tasks = JoinSet::new();
    let mut listening: BTreeMap<Check, Listening> = BTreeMap::new();
    let mut failed: BTreeMap<Check, Problem> = BTreeMap::new();
    let mut looked = None;
    loop {
        let retry = async { if failed.is_empty() { pending().await } else { sleep(RETRY).await } };
        let news = admin.control.wait_for(move |status| Some(status.news) != looked);
        looked = tokio::select! {
            status = news => match status {
                Ok(status) => Some(status.news),
                Err(Ended) => return,
            },
            () = retry => looked,
        };
        while tasks.try_join_next().is_some() {}
        let wanted = admin.control.inspect(|view: &View<'_>| {
            let assembly = view.assembly;
            let complete = assembly.complete();
            complete.then(|| wanted(assembly.state(), assembly.settings()))
        });
        let Ok(Some(wanted)) = wanted.await else { continue };
        listening.retain(|check, listener| {
            let stays = wanted.contains_key(check);
            if !stays {
                listener.task.abort();
            }
            stays
        });
        // What was ended lets go of its port when it is next polled, and another Service may want it now.
        yield_now().await;
        let before = std::mem::take(&mut failed);
        for (check, endpoints) in wanted {
            if let Some(listener) = listening.get(&check) {
                listener.endpoints.store(endpoints, Ordering::Relaxed);
                continue;
            }
            let bound = match bind(&check) {
                Ok(bound) => bound,
                Err(error) => {
                    let problem = check.problem(&error);
                    failed.insert(check, problem);
                    continue;
                }
            };
            info!(service = %check.service, port = check.port, "health check node port opened");
            let endpoints = Arc::new(AtomicUsize::new(endpoints));
            let answers = answer(admin.clone(), bound, check.service.clone(), endpoints.clone());
            let task = tasks.spawn(answers);
            listening.insert(check, Listening { endpoints, task });
        }
        if failed != before {
            let problems = failed.values().cloned().collect();
            // The loop ends only with the process.
            let _ = admin.control.send(Update::Found("health check node ports", problems)).await;
        }
        sleep(PAUSE).await;
    }
}

impl Check {
    /// HCK-7
    fn problem(&self, error: &io::Error) -> Problem {
        let family = if self.v4 { "IPv4" } else { "IPv6" };
        let reason = Reason::HealthCheck { port: self.port, family, error: error.to_string() };
        let service = ObjectKey { kind: Kind::Service, name: self.service.clone() };
        Problem::of(service, "spec.healthCheckNodePort", reason)
    }
}

/// The checks there should be, with the number of local endpoints each.
fn wanted(state: &State, settings: &Settings) -> BTreeMap<Check, usize> {
    let mut wanted = BTreeMap::new();
    for service in state.health_checked().filter(|service| service.skip().is_none()) {
        let Some(port) = service.health_check_node_port else { continue };
        for v4 in [true, false].into_iter().filter(|v4| service.cluster_ip(*v4).is_some()) {
            let check = Check { service: service.name.clone(), v4, port };
            wanted.insert(check, local_endpoints(state, &service.name, v4, settings));
        }
    }
    wanted
}

/// HCK-5: distinct addresses of ready endpoints here. An edge gateway, to which every endpoint is as near as any other,
/// counts all.
fn local_endpoints(state: &State, service: &ObjectName, v4: bool, settings: &Settings) -> usize {
    let slices = state.slices(service).filter(|slice| slice.v4 == v4 && !slice.ports.is_empty());
    let here = |node: &Option<Arc<str>>| {
        settings.role == Role::Edge || (node.is_some() && *node == settings.node_name)
    };
    let endpoints = slices.flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.ready && here(&endpoint.node));
    ready.map(|endpoint| endpoint.address).collect::<HashSet<IpAddr>>().len()
}

fn bind(check: &Check) -> io::Result<TcpListener> {
    let (socket, any): (_, IpAddr) = if check.v4 {
        (TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into())
    } else {
        (TcpSocket::new_v6()?, Ipv6Addr::UNSPECIFIED.into())
    };
    if !check.v4 {
        // The other family has its own.
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(any, check.port))?;
    socket.listen(BACKLOG)
}

/// Answers any request (HCK-2), for ever.
async fn answer(
    admin: Arc<Admin>,
    listener: TcpListener,
    service: ObjectName,
    endpoints: Arc<AtomicUsize>,
) {
    let asked = admin.clone();
    let router = Router::new().fallback(async move || {
        let (healthy, _) = asked.proxy_health();
        response(&service, endpoints.load(Ordering::Relaxed), healthy && asked.readiness().ready)
    });
    let control = admin.control.clone();
    let serves = move |address: IpAddr| {
        let control = control.clone();
        let serves =
            move |view: &View<'_>| view.publisher.tables().node.serves_node_ports(address.into());
        let asked =
            async move { address.is_loopback() || control.inspect(serves).await.unwrap_or(false) };
        asked.boxed()
    };
    http::answer(listener, router, serves).await;
}

/// HCK-3, HCK-4.
fn response(service: &ObjectName, endpoints: usize, healthy: bool) -> impl IntoResponse + use<> {
    let code =
        if endpoints > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "service": {"namespace": service.namespace(), "name": service.name()},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": healthy,
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (
            header::HeaderName::from_static("x-load-balancing-endpoint-weight"),
            endpoints.to_string(),
        ),
    ];
    (code, headers, body.to_string())
}
