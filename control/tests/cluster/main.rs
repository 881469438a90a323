//! What a cluster says of itself, and what it is told: Node and ServiceCIDR objects, rights, Events.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod events;
mod objects;
mod recorded;

use std::sync::Arc;
use std::time::Duration;

use control::control::Handle;
use control::events::Counters;
use control::source::kubernetes::{self, Options, Scope};
use tokio::time;

use support::{settings, start};

/// A gateway on node `n1` that follows the server at `url` while `test` runs.
async fn gateway(url: &str, services: &str, test: impl AsyncFnOnce(Handle, Arc<Counters>)) {
    let settings = settings(services);
    let counters = Arc::<Counters>::default();
    let options = Options {
        scope: Scope::Addressed,
        node_name: settings.node_name.clone(),
        events: counters.clone(),
    };
    let (handle, tasks) = start(settings);
    let config = kube::Config::new(url.parse().expect("a URL"));
    let client = kubernetes::client(config).expect("a client");
    tasks.spawn_local(kubernetes::run(client, options, handle.clone()));
    let test = time::timeout(Duration::from_secs(60), test(handle, counters));
    tasks.run_until(test).await.expect("in time");
}

/// Waits until something is the case.
async fn until(what: impl AsyncFn() -> bool) {
    while !what().await {
        time::sleep(Duration::from_millis(5)).await;
    }
}

/// A Service `a` with an endpoint in each of two zones.
const HINTED: &str = "
{apiVersion: v1, kind: Service, metadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'},
  spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-x, labels: {kubernetes.io/service-name: a}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [
    {addresses: [10.0.0.1], hints: {forZones: [{name: z1}]}}, {addresses: [10.0.0.2], hints: {forZones: [{name: z2}]}}]}
";
