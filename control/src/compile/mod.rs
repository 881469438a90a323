//! A Service and its slices to rows of the service table. Pure and deterministic: equal input, equal output.
//!
//! Everything about verdicts that does not depend on a packet is decided here: which endpoints each policy may use
//! (SEL, TRM), topology hints (TOP), addresses and families (DUA), allowed sources (LSR). Who owns an address that two
//! Services claim is not known here: see [`crate::claims`].
//!
//! Role `edge` differs in one point, because nothing is ever local to a gateway without pods: external policy Local
//! means "keep the client's address", and its list is every ready endpoint, unfiltered by hints as any Local list
//! (TOP-8). Internal policy Local stays what it is: endpoints on the gateway's own node, if it has a name and they exist.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dataplane::service::{Class, Frontend, FrontendAt, ServicePort};
use ipnet::IpNet;

use crate::object::service::Port;
use crate::object::slice::Endpoint;
use crate::object::{Kind, ObjectKey, Problem, Reason, Service, Slice};
use crate::settings::{Role, Settings};

/// The rows of a Service: one for each port in each family it has a cluster IP of (OBJ-1, OBJ-4), IPv4 first.
#[must_use]
pub fn compile<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    settings: &Settings,
) -> Vec<ServicePort> {
    if service.skip().is_some() {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for v4 in [true, false] {
        if service.cluster_ip(v4).is_none() {
            continue;
        }
        let ranges = allowed_sources(service, v4, settings);
        for port in &service.ports {
            let endpoints = match service.headless_label {
                true => Vec::new(),
                false => endpoints(slices.clone(), port, v4),
            };
            let endpoints: Vec<_> = endpoints
                .into_iter()
                .filter(|(at, _)| !is_cluster_ip(at.ip(), service, settings))
                .collect();
            let frontends = frontends(service, port, v4, &ranges, settings);
            rows.push(row(service, port, frontends, &endpoints, settings));
        }
    }
    rows
}

fn row(
    service: &Service,
    port: &Port,
    frontends: Vec<Frontend>,
    endpoints: &[(SocketAddr, &Endpoint)],
    settings: &Settings,
) -> ServicePort {
    let edge = settings.role == Role::Edge;
    let external = frontends.iter().any(|frontend| frontend.class == Class::External); // OBJ-6
    let external_local = service.external_local && external; // SEL-3
    let usable = |(_, e): &(SocketAddr, &Endpoint)| e.ready || (e.serving && e.terminating);

    let mut cluster = Vec::new();
    if !service.internal_local || external {
        // SEL-2, SEL-4
        let ready: Vec<_> = endpoints.iter().filter(|(_, e)| e.ready).copied().collect();
        cluster = by_topology(&ready, settings);
        if cluster.is_empty() {
            cluster = draining(endpoints);
        }
    }
    // SEL-3
    let here = |e: &Endpoint| e.node.is_some() && e.node == settings.node_name;
    let internal_local = service.internal_local.then(|| local(endpoints, here));
    let external_local = external_local.then(|| local(endpoints, |e| edge || here(e)));
    let mut row = ServicePort {
        name: row_name(service, port),
        protocol: port.protocol,
        has_endpoints: !cluster.is_empty(),
        cluster,
        internal_local,
        external_local,
        serving: Vec::new(),
        affinity: service
            .affinity
            .map(|timeout| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX)),
        frontends,
    };
    row.has_endpoints |= row.locals().next().is_some() && endpoints.iter().any(usable); // SEL-7
    // CTK-3: a UDP flow to an endpoint that serves is not cut because a policy no longer chooses it.
    let listed = |at: &SocketAddr| {
        row.cluster.binary_search(at).is_ok()
            || row.locals().any(|local| local.binary_search(at).is_ok())
    };
    row.serving =
        endpoints.iter().filter(|(at, e)| e.serving && !listed(at)).map(|(at, _)| *at).collect();
    row
}

/// SEL-5, of the endpoints that count as local.
fn local(
    endpoints: &[(SocketAddr, &Endpoint)],
    counts: impl Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let endpoints: Vec<_> = endpoints.iter().filter(|(_, e)| counts(e)).copied().collect();
    let ready: Vec<_> = endpoints.iter().filter(|(_, e)| e.ready).map(|(at, _)| *at).collect();
    if ready.is_empty() { draining(&endpoints) } else { ready }
}

/// `namespace/name:port`, the port by its name if it has one.
pub(crate) fn row_name(service: &Service, port: &Port) -> Arc<str> {
    match port.name.as_str() {
        "" => format!("{}:{}", service.name, port.number).into(),
        name => format!("{}:{name}", service.name).into(),
    }
}

/// Endpoints of a Service port, sorted by address and port (EPS-10), each once (EPS-7).
pub(crate) fn endpoints<'a>(
    slices: impl Iterator<Item = &'a Slice>,
    port: &Port,
    v4: bool,
) -> Vec<(SocketAddr, &'a Endpoint)> {
    let mut found = Vec::new();
    for slice in slices.filter(|slice| slice.v4 == v4) {
        let numbers =
            slice.ports.iter().filter(|p| p.name == port.name && p.protocol == port.protocol);
        for number in numbers.map(|port| port.number) {
            let at = |endpoint: &Endpoint| SocketAddr::new(endpoint.address, number);
            found.extend(slice.endpoints.iter().map(|endpoint| (at(endpoint), endpoint)));
        }
    }
    // A pod that took over the address of one that is going counts. Between equals upstream leaves the choice open; ours
    // must not depend on slice names, so that a slice's split changes nothing.
    let rank = |e: &&'a Endpoint| (!e.terminating, e.ready, e.serving, *e);
    found.sort_unstable_by(|(a, x), (b, y)| a.cmp(b).then_with(|| rank(y).cmp(&rank(x))));
    found.dedup_by_key(|(at, _)| *at);
    found
}

/// Endpoints that are going but still answer: the last resort (TRM-1, TRM-2). Never those that are merely not ready
/// (SEL-8).
fn draining(endpoints: &[(SocketAddr, &Endpoint)]) -> Vec<SocketAddr> {
    let draining = endpoints.iter().filter(|(_, e)| e.serving && e.terminating);
    draining.map(|(at, _)| *at).collect()
}

/// TOP-1 to TOP-6: the ready endpoints hinted for this node, else for this zone, else all.
fn by_topology(ready: &[(SocketAddr, &Endpoint)], settings: &Settings) -> Vec<SocketAddr> {
    let hinted = |hints: fn(&Endpoint) -> &[Arc<str>], here: Option<&str>| {
        let all_hinted = ready.iter().all(|(_, e)| !hints(e).is_empty());
        let here = here.filter(|_| all_hinted)?;
        let chosen = ready.iter().filter(|(_, e)| hints(e).iter().any(|hint| **hint == *here));
        let chosen: Vec<SocketAddr> = chosen.map(|(at, _)| *at).collect();
        (!chosen.is_empty()).then_some(chosen)
    };
    hinted(|e| &e.node_hints, settings.node_name.as_deref())
        .or_else(|| hinted(|e| &e.zone_hints, settings.zone()))
        .unwrap_or_else(|| ready.iter().map(|(at, _)| *at).collect())
}

/// Where clients reach a port. An address listed twice appears once: the cluster IP wins, then the balancer's address,
/// whose source filter upstream applies to the address whoever else lists it.
fn frontends(
    service: &Service,
    port: &Port,
    v4: bool,
    ranges: &Arc<[IpNet]>,
    settings: &Settings,
) -> Vec<Frontend> {
    let none: Arc<[IpNet]> = Arc::new([]);
    let at = |ip| FrontendAt::Address(SocketAddr::new(ip, port.number));
    let mut frontends: Vec<Frontend> = Vec::new();
    let mut add = |at: FrontendAt, class: Class, allowed_sources: &Arc<[IpNet]>| {
        if frontends.iter().all(|other| other.at != at) {
            frontends.push(Frontend { at, class, allowed_sources: allowed_sources.clone() });
        }
    };
    if let Some(ip) = service.cluster_ip(v4) {
        add(at(ip), Class::Cluster, &none);
    }
    // DUA-2: addresses of the other family belong to the other row.
    let vips = allowed(&service.vips, &settings.allowed_load_balancer_ips);
    for ip in vips.filter(|ip| ip.is_ipv4() == v4) {
        add(at(*ip), Class::External, ranges);
    }
    let external_ips = allowed(&service.external_ips, &settings.allowed_external_ips);
    for ip in external_ips.filter(|ip| ip.is_ipv4() == v4) {
        add(at(*ip), Class::External, &none);
    }
    if let Some(port) = port.node_port {
        add(FrontendAt::NodePort { v4, port }, Class::External, &none);
    }
    frontends
}

/// The addresses inside one of these networks; all when there are none.
fn allowed<'a>(addresses: &'a [IpAddr], nets: &'a [IpNet]) -> impl Iterator<Item = &'a IpAddr> {
    addresses.iter().filter(|ip| nets.is_empty() || nets.iter().any(|net| net.contains(*ip)))
}

/// EPS-14: a cluster IP as an endpoint would send packets in a circle, or to nobody.
pub(crate) fn is_cluster_ip(address: IpAddr, service: &Service, settings: &Settings) -> bool {
    service.cluster_ip(address.is_ipv4()) == Some(address)
        || settings.service_cidrs.iter().any(|net| net.contains(&address))
}

/// What a Service names and may not have, each a problem: addresses that the configuration does not allow, and endpoints
/// that are cluster IPs.
pub fn refused<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice>,
    settings: &Settings,
) -> Vec<Problem> {
    if service.skip().is_some() {
        return Vec::new();
    }
    let of = |addresses: &[IpAddr], nets: &[IpNet], field: &str, list| {
        let allowed: Vec<&IpAddr> = allowed(addresses, nets).collect();
        let refused = addresses.iter().filter(|ip| !allowed.contains(ip));
        let problem = |address: &IpAddr| {
            let object = ObjectKey { kind: Kind::Service, name: service.name.clone() };
            Problem::of(object, field, Reason::NotAllowed { address: *address, list })
        };
        refused.map(problem).collect::<Vec<_>>()
    };
    let external = &settings.allowed_external_ips;
    let mut all = of(&service.external_ips, external, "spec.externalIPs", "allowedExternalIPs");
    all.extend(of(
        &service.vips,
        &settings.allowed_load_balancer_ips,
        "status.loadBalancer.ingress",
        "allowedLoadBalancerIPs",
    ));
    for slice in slices {
        let circles = slice.endpoints.iter().map(|endpoint| endpoint.address);
        let circles = circles.filter(|address| is_cluster_ip(*address, service, settings));
        all.extend(circles.map(|address| {
            let object = ObjectKey { kind: Kind::EndpointSlice, name: slice.name.clone() };
            let why = format!(
                "{address} is a cluster IP, which can't be an endpoint: name the endpoints behind it"
            );
            Problem::of(object, "endpoints", Reason::Endpoint(why))
        }));
    }
    all
}

/// LSR-4: ranges of this family; LSR-5: if they hold this node's primary address, the Service's own addresses too.
fn allowed_sources(service: &Service, v4: bool, settings: &Settings) -> Arc<[IpNet]> {
    let mut ranges: Vec<IpNet> =
        service.source_ranges.iter().filter(|net| net.addr().is_ipv4() == v4).copied().collect();
    let primary = settings.primary(v4);
    if primary.is_some_and(|primary| ranges.iter().any(|net| net.contains(&primary))) {
        let own = service.vips.iter().filter(|ip| ip.is_ipv4() == v4);
        ranges.extend(own.map(|ip| IpNet::from(*ip)));
    }
    ranges.sort_unstable();
    ranges.dedup();
    ranges.into()
}

#[cfg(test)]
mod tests;
