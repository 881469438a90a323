//! Which endpoints each policy may use: what kube-proxy's categorizing does, in own words.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::cluster::{Endpoint, HERE, Kind, Service, ZONE};

/// Whether kube-proxy has rows for it.
pub(crate) fn is_served(service: &Service) -> bool {
    !matches!(service.kind, Kind::Headless | Kind::ExternalName | Kind::OtherProxy)
}

pub(crate) struct Lists {
    pub(crate) cluster: Vec<SocketAddr>,
    pub(crate) local: Vec<SocketAddr>,
    /// Whether anything anywhere could serve.
    pub(crate) has_endpoints: bool,
}

/// The lists of a Service's port in a family.
pub(crate) fn lists(service: &Service, index: usize, v4: bool) -> Lists {
    let all = endpoints(service, index, v4);
    let pick = |usable: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        all.iter().filter(|(_, endpoint)| usable(endpoint)).map(|(at, _)| *at).collect()
    };
    let ready = |endpoint: &Endpoint| endpoint.ready.unwrap_or(true);
    let draining = |endpoint: &Endpoint| {
        endpoint.serving.unwrap_or(true) && endpoint.terminating.unwrap_or(false)
    };
    let here = |endpoint: &Endpoint| endpoint.node == Some(HERE);
    let or = |first: Vec<SocketAddr>, second: &dyn Fn() -> Vec<SocketAddr>| {
        if first.is_empty() { second() } else { first }
    };
    let by_hint = hint(all.values().copied().filter(|endpoint| ready(endpoint)));
    let cluster = or(pick(&|e| ready(e) && by_hint(e)), &|| pick(&draining));
    let local = or(pick(&|e| here(e) && ready(e)), &|| pick(&|e| here(e) && draining(e)));
    let uses_local = service.internal_local || service.external_local;
    let has_endpoints =
        !cluster.is_empty() || uses_local && !pick(&|e| ready(e) || draining(e)).is_empty();
    Lists { cluster, local, has_endpoints }
}

/// Each once, sorted; one that stays counts before one that goes.
fn endpoints(service: &Service, index: usize, v4: bool) -> BTreeMap<SocketAddr, &Endpoint> {
    let mut all: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
    for slice in service.slices.iter().filter(|slice| slice.v4 == v4) {
        let Some(number) = slice.ports[index] else { continue };
        for endpoint in &slice.endpoints {
            let known = all.entry(SocketAddr::new(endpoint.address, number)).or_insert(endpoint);
            if known.terminating == Some(true) {
                *known = endpoint;
            }
        }
    }
    all
}

/// What topology lets through: hints for this node, else for this zone, else everything.
fn hint<'a>(ready: impl Iterator<Item = &'a Endpoint>) -> impl Fn(&Endpoint) -> bool {
    let ready: Vec<&Endpoint> = ready.collect();
    let in_force = |hints: fn(&Endpoint) -> &[&'static str], here: &str| {
        ready.iter().all(|endpoint| !hints(endpoint).is_empty())
            && ready.iter().any(|endpoint| hints(endpoint).contains(&here))
    };
    let nodes = in_force(|endpoint| &endpoint.nodes, HERE);
    let zones = in_force(|endpoint| &endpoint.zones, ZONE);
    move |endpoint| match (nodes, zones) {
        (true, _) => endpoint.nodes.contains(&HERE),
        (false, true) => endpoint.zones.contains(&ZONE),
        (false, false) => true,
    }
}
