//! Gateways that are the kernel itself: with kube-proxy's rules, and without any.

use std::fs;
use std::time::Instant;

use super::super::Error;
use super::namespace::Namespace;
use super::plan::{
    CLIENT, CLIENT_MAC, Cluster, ENDPOINTS, INSIDE, NODE, NODE_MAC, OUTSIDE, PREFIX, text,
};
use super::rules;
use super::site::Site;

/// A namespace that forwards.
#[derive(Debug)]
pub(super) struct Linux {
    pub(super) namespace: Namespace,
    /// How long it took to load the rules.
    pub(super) load_seconds: f64,
}

impl Linux {
    /// With the rules for a cluster, or without rules and so without connection tracking.
    pub(super) fn new(site: &Site, cluster: Option<Cluster>) -> Result<Self, Error> {
        let role =
            cluster.map_or_else(|| "forward".into(), |cluster| format!("nft{}", cluster.name()));
        let namespace = site.gateway(&role)?;
        namespace.set("ipv4/ip_forward", "1")?;
        let begin = Instant::now();
        for transaction in cluster.into_iter().flat_map(rules::transactions) {
            namespace.nft(&transaction)?;
        }
        Ok(Self { namespace, load_seconds: begin.elapsed().as_secs_f64() })
    }

    /// Addresses, routes and neighbours; the cables are here.
    pub(super) fn configure(&self, site: &Site) -> Result<(), Error> {
        let Site { outside, inside, .. } = site;
        self.namespace.ip(&[
            format!("address add {OUTSIDE}/{PREFIX} dev {outside}"),
            format!("address add {INSIDE}/{PREFIX} dev {inside}"),
            format!("route add {ENDPOINTS} via {NODE}"),
            format!("neighbour replace {CLIENT} lladdr {} dev {outside}", text(CLIENT_MAC)),
            format!("neighbour replace {NODE} lladdr {} dev {inside}", text(NODE_MAC)),
        ])
    }

    /// Connections that the kernel tracks here.
    pub(super) fn connections(&self) -> Result<u64, Error> {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = self.namespace.run(|| fs::read_to_string(path));
        let count = text.ok().and_then(|text| text.trim().parse().ok());
        count.ok_or_else(|| Error(format!("cannot read {path}")))
    }
}
