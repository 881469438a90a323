//! The cast and the scenery: who is in the demo, at which addresses.
//!
//! Documentation and private ranges only; all of it exists in the demo's own network namespaces and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use serde::{Serialize, Serializer};

/// Names of the gateway's ends of the two cables.
pub(super) const OUTSIDE: &str = "out0";
pub(super) const INSIDE: &str = "in0";
/// Name of the other end, at the client and at the backends.
pub(super) const FAR_END: &str = "eth0";

/// An address of each family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

pub(super) const CLIENT: Pair = pair([192, 0, 2, 10], [0x2001, 0xdb8, 1, 0x10]);
pub(super) const GATEWAY_OUTSIDE: Pair = pair([192, 0, 2, 1], [0x2001, 0xdb8, 1, 1]);
pub(super) const GATEWAY_INSIDE: Pair = pair([10, 0, 1, 1], [0xfd00, 0, 1, 1]);

/// A backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backend {
    pub(super) name: &'static str,
    pub(super) at: Pair,
}

/// The last one joins while the demo runs.
pub(super) const BACKENDS: [Backend; 4] = [
    Backend { name: "red", at: pair([10, 0, 1, 11], [0xfd00, 0, 1, 0x11]) },
    Backend { name: "green", at: pair([10, 0, 1, 12], [0xfd00, 0, 1, 0x12]) },
    Backend { name: "blue", at: pair([10, 0, 1, 13], [0xfd00, 0, 1, 0x13]) },
    Backend { name: "gold", at: pair([10, 0, 1, 14], [0xfd00, 0, 1, 0x14]) },
];

/// Ports of the backends, and of the Services.
pub(super) const BACKEND_HTTP: u16 = 8080;
pub(super) const BACKEND_ECHO: u16 = 7007;
pub(super) const SERVICE_HTTP: u16 = 80;
pub(super) const SERVICE_ECHO: u16 = 7;
pub(super) const NODE_HTTP: u16 = 30080;
pub(super) const NODE_ECHO: u16 = 30007;

/// How a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ClusterIp,
    NodePort,
    ExternalIp,
    LoadBalancer,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::ClusterIp, Self::NodePort, Self::ExternalIp, Self::LoadBalancer];

    /// As Kubernetes spells it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::ExternalIp => "externalIPs",
            Self::LoadBalancer => "LoadBalancer",
        }
    }

    /// Its address; a node port is at the gateway's own.
    pub(super) const fn vip(self) -> Pair {
        match self {
            Self::ClusterIp => pair([10, 96, 0, 80], [0xfd00, 0x96, 0, 0x80]),
            Self::NodePort => GATEWAY_OUTSIDE,
            Self::ExternalIp => pair([198, 51, 100, 80], [0x2001, 0xdb8, 2, 0x80]),
            // In the client's own network: the gateway answers ARP and neighbour discovery for it.
            Self::LoadBalancer => pair([192, 0, 2, 80], [0x2001, 0xdb8, 1, 0x80]),
        }
    }

    pub(super) fn http(self, family: Family) -> SocketAddr {
        let port = if self == Self::NodePort { NODE_HTTP } else { SERVICE_HTTP };
        SocketAddr::new(self.vip().of(family), port)
    }

    pub(super) fn echo(self, family: Family) -> SocketAddr {
        let port = if self == Self::NodePort { NODE_ECHO } else { SERVICE_ECHO };
        SocketAddr::new(self.vip().of(family), port)
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Family {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

impl Family {
    /// What this kernel can do: some are started without IPv6.
    pub(super) fn here() -> Vec<Self> {
        let v6 = Path::new("/proc/sys/net/ipv6").exists();
        if v6 { vec![Self::V4, Self::V6] } else { vec![Self::V4] }
    }

    /// Prefix lengths of networks and of single addresses.
    pub(super) const fn prefixes(self) -> (u8, u8) {
        match self {
            Self::V4 => (24, 32),
            Self::V6 => (64, 128),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl Pair {
    pub(super) const fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4),
            Family::V6 => IpAddr::V6(self.v6),
        }
    }

    /// With the length of its network, as `ip address add` wants it.
    pub(super) fn in_network(self, family: Family) -> String {
        format!("{}/{}", self.of(family), family.prefixes().0)
    }
}

/// The IPv6 address is given by its first three groups and its last one.
const fn pair([a, b, c, d]: [u8; 4], [e, f, g, h]: [u16; 4]) -> Pair {
    Pair { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(e, f, g, 0, 0, 0, 0, h) }
}
