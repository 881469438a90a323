//! Explaining without a gateway: the same assembly, fed with manifests once, and a stand-in for the kernel's routes.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dataplane::fib::{Fib, FibSpec, PortSpec, RouteSpec, RouteTo};
use dataplane::hash::HashKey;
use dataplane::tables::{Node, Tables};
use ipnet::IpNet;

use super::{Explainer, Explanation, Flow, Scene};
use crate::assembly::Assembly;
use crate::config::Config;
use crate::object::Problem;
use crate::source::Event;
use crate::source::manifests::Manifests;

/// Addresses to masquerade as, of the ranges that nobody can have (RFC 7600, RFC 6666): a real one would change what
/// flows to the node's own addresses mean.
const MASQUERADE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)),
    IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)),
];

/// Manifests that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// They can't be read.
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
}

/// Explains flows by manifests: a file, a folder, or standard input when the path is `-`. Also returns what is wrong
/// with the manifests.
pub fn explain_manifests(
    config: &Config,
    manifests: &Path,
    flows: &[Flow],
) -> Result<(Vec<Explanation>, Vec<Problem>), OfflineError> {
    if manifests == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        return Ok(explain_text(config, "-", &text, flows));
    }
    let events = Manifests::new(manifests, &config.services).load()?;
    Ok(explain_events(config, events, flows))
}

/// Explains flows by manifests that are at hand as `text`; problems call them `name`.
#[must_use]
pub fn explain_text(
    config: &Config,
    name: &str,
    text: &str,
    flows: &[Flow],
) -> (Vec<Explanation>, Vec<Problem>) {
    let events = Manifests::new(name, &config.services).load_text(name, text);
    explain_events(config, events, flows)
}

/// Explains flows by complete lists of objects.
fn explain_events(
    config: &Config,
    events: Vec<Event>,
    flows: &[Flow],
) -> (Vec<Explanation>, Vec<Problem>) {
    let mut assembly = Assembly::new(config.services.clone(), HashKey::new(config.fleet_seed));
    for event in events {
        assembly.take(event, Instant::now());
    }
    let services = assembly.build_all();
    let services = services.unwrap_or_else(|| assembly.writer().table());
    let settings = assembly.settings();
    let fib = stand_in(settings.node_ips.clone());
    let node = settings.node(Node::default());
    let tables = Tables { services, fib: Arc::new(Fib::new(&fib)), node: Arc::new(node) };
    let scene = Scene { assembly: &assembly, tables: &tables, ports: 1, routes: false };
    let mut explainer = Explainer::new(1);
    let told = flows.iter().map(|flow| explainer.explain(flow, &scene)).collect();
    (told, assembly.problems().cloned().collect())
}

/// One port through which everybody is reached.
fn stand_in(locals: Vec<IpAddr>) -> FibSpec {
    let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let routes = everywhere.map(|address: IpAddr| RouteSpec {
        prefix: IpNet::new(address, 0).expect("no bits are always fine"),
        to: RouteTo::Port { port: 0, gateway: None },
    });
    let port = PortSpec {
        mac: [0x02, 0, 0, 0, 0, 2],
        mtu: 1500,
        addresses: MASQUERADE.to_vec(),
        mss_clamp: None,
    };
    FibSpec { ports: vec![port], routes: routes.into(), neighbors: Vec::new(), locals }
}
