//! Who is in the benchmark, and at which addresses: the same for every gateway.
//!
//!     client 10.244.0.10 -- 10.244.0.1 [gateway] 10.0.1.1 -- 10.0.1.2 backend: a node, behind it the endpoints
//!
//! The client is a pod, so that nobody masquerades it: both gateways have to do destination NAT and nothing else.

use std::net::Ipv4Addr;

use dataplane::fib::Mac;

pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
/// The gateway's addresses, and its neighbour's behind it.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
pub(super) const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 2);
pub(super) const PREFIX: u8 = 24;

pub(super) const PODS: &str = "10.244.0.0/16";
pub(super) const ENDPOINTS: &str = "10.244.128.0/17";
pub(super) const CLUSTER_IPS: &str = "10.96.0.0/16";

pub(super) const SERVICE_PORT: u16 = 80;
pub(super) const ENDPOINT_PORT: u16 = 8080;

pub(super) const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 0x0a];
pub(super) const OUTSIDE_MAC: Mac = [2, 0, 0, 0, 0, 1];
pub(super) const INSIDE_MAC: Mac = [2, 0, 0, 0, 0, 2];
pub(super) const NODE_MAC: Mac = [2, 0, 0, 0, 0, 0x0b];

const FIRST_ENDPOINT: u32 = Ipv4Addr::new(10, 244, 128, 1).to_bits();
const FIRST_CLUSTER_IP: u32 = Ipv4Addr::new(10, 96, 0, 1).to_bits();
const FIRST_CLIENT_PORT: u16 = 1024;
/// Endpoints of all Services; nftables takes more than a minute to load ten times as many.
const MOST_ENDPOINTS: u32 = 10_000;

/// The Services that a gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    pub(super) services: u32,
}

/// Where packets of a run go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To cluster IPs of these Services, in turn.
    Services(Cluster),
    /// To endpoints: nothing is translated.
    Endpoints,
}

impl Cluster {
    /// Endpoints of each Service: some, but not too many to load.
    pub(super) fn endpoints_each(self) -> u32 {
        (MOST_ENDPOINTS / self.services).clamp(1, 4)
    }

    pub(super) fn cluster_ip(self, service: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST_CLUSTER_IP + service)
    }

    pub(super) fn endpoints(self, service: u32) -> impl Iterator<Item = Ipv4Addr> {
        let each = self.endpoints_each();
        let first = FIRST_ENDPOINT + service * each;
        (first..first + each).map(Ipv4Addr::from_bits)
    }

    /// As in `10k`.
    pub(super) fn name(self) -> String {
        match self.services {
            n if n >= 1000 && n % 1000 == 0 => format!("{}k", n / 1000),
            n => n.to_string(),
        }
    }
}

impl Target {
    /// The address and port that packets of a flow are sent to.
    pub(super) fn of(self, flow: u16) -> (Ipv4Addr, u16) {
        match self {
            Self::Services(cluster) => {
                (cluster.cluster_ip(u32::from(flow) % cluster.services), SERVICE_PORT)
            }
            Self::Endpoints => {
                (Ipv4Addr::from_bits(FIRST_ENDPOINT + u32::from(flow)), ENDPOINT_PORT)
            }
        }
    }
}

/// The client's port of a flow.
pub(super) fn client_port(flow: u16) -> u16 {
    FIRST_CLIENT_PORT + flow
}

/// The flow of a client's port.
pub(super) fn flow_of(port: u16) -> Option<u16> {
    port.checked_sub(FIRST_CLIENT_PORT)
}

/// Whether an address is an endpoint's.
pub(super) fn is_endpoint(address: Ipv4Addr) -> bool {
    address.to_bits() >> 15 == FIRST_ENDPOINT >> 15
}

/// As `ip` wants it.
pub(super) fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_endpoints_of_its_own() {
        for services in [1, 1_000, 10_000] {
            let cluster = Cluster { services };
            let all: Vec<_> =
                (0..services).flat_map(|service| cluster.endpoints(service)).collect();
            let mut distinct = all.clone();
            distinct.dedup();
            assert_eq!(all.len(), distinct.len());
            assert_eq!(all.len(), (services * cluster.endpoints_each()) as usize);
            assert!(all.into_iter().all(is_endpoint));
        }
        assert_eq!(Cluster { services: 10_000 }.name(), "10k");
        assert!(!is_endpoint(CLIENT));
    }
}
