//! The list of Services in `vipgate status`: one entry for each port of each Service, families joined.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use dataplane::flow::Protocol;
use dataplane::service::tally::{Count, Tallies};
use dataplane::service::{FrontendAt, ServicePort};

use super::{ServiceStatus, traffic};
use crate::control::View;

/// What the control loop serves now, by name.
pub(super) fn of(view: &View<'_>, tallies: &[Arc<Tallies>]) -> Vec<ServiceStatus> {
    let mut ports: BTreeMap<(&str, &str), ServiceStatus> = BTreeMap::new();
    for (_, row, place) in view.assembly.writer().places() {
        let protocol = row.protocol.name();
        let port = ports.entry((&row.name, protocol)).or_insert_with(|| ServiceStatus {
            name: row.name.to_string(),
            frontends: Vec::new(),
            backends: 0,
            connections: 0,
            refused: 0,
            one_way: 0,
        });
        let counts = traffic::sum(tallies, place);
        port.connections += counts[Count::Connections as usize];
        port.refused += traffic::refused(&counts);
        port.one_way += counts[Count::OneWay as usize];
        port.backends += backends(row);
        port.frontends.extend(row.frontends.iter().map(|frontend| text(row.protocol, frontend.at)));
    }
    let sort = |mut port: ServiceStatus| {
        port.frontends.sort_unstable();
        port.frontends.dedup();
        port
    };
    ports.into_values().map(sort).collect()
}

/// Those of all policies, each once. Lists are sorted, and local endpoints are mostly in the other list too.
fn backends(row: &ServicePort) -> usize {
    let elsewhere = |at: &&SocketAddr| row.cluster.binary_search(at).is_err();
    let only_local: BTreeSet<&SocketAddr> = row.locals().flatten().filter(elsewhere).collect();
    row.cluster.len() + only_local.len()
}

fn text(protocol: Protocol, at: FrontendAt) -> String {
    match at {
        FrontendAt::Address(address) => format!("{} {address}", protocol.name()),
        FrontendAt::NodePort { port, .. } => format!("{} nodePort {port}", protocol.name()),
    }
}
