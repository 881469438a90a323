//! Who is who on the wire: clients behind a router, the gateway, its VIPs, the backends.
//!
//! The defaults are one small network per family, which the gateway has to be configured for:
//!
//! | | IPv4 | IPv6 |
//! | - | - | - |
//! | gateway, client side | 192.0.2.1 | 2001:db8:1::1 |
//! | our router, next hop to the clients | 192.0.2.2 | 2001:db8:1::2 |
//! | clients | 198.18.0.1 and up | 2001:db8:c::1 and up |
//! | gateway, backend side | 10.0.1.1 | 2001:db8:2::1 |
//! | backends, on that link | 10.0.1.10:8080, 10.0.1.11:8080 | [2001:db8:2::10]:8080, [2001:db8:2::11]:8080 |

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use dataplane::flow::{Address, Protocol, Tuple};

use super::frame;

/// Source ports of flows; those below belong to probes.
const FLOW_PORTS: std::ops::RangeInclusive<u16> = 2048..=65_535;
const PROBE_PORTS: std::ops::Range<u16> = 1024..2048;
const BACKEND_PORT: u16 = 8080;

/// What one run is made of.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) vips: Vec<Vip>,
    /// Every VIP leads to all of them.
    pub(super) backends: Vec<(Address, u16)>,
    pub(super) clients: Clients,
    pub(super) router: Address,
    /// The gateway's addresses on the clients' and the backends' link.
    pub(super) gateways: [Address; 2],
    /// Frames as DPDK sees them: without FCS.
    pub(super) frame_len: usize,
    /// Flows at a time.
    pub(super) flows: u32,
    /// Packets of clients a second.
    pub(super) rate: f64,
    /// Flows that end and make place for new ones a second.
    pub(super) renewals: f64,
    /// Packets that may be on their way at a time, lost ones included.
    pub(super) window: Option<u64>,
}

/// A Service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vip {
    pub(super) protocol: Protocol,
    pub(super) address: Address,
    pub(super) port: u16,
    /// The source address backends see; the client's when absent.
    pub(super) masquerade: Option<Address>,
}

/// A range of client addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clients {
    pub(super) first: Address,
    pub(super) count: u32,
}

impl Plan {
    pub(super) fn is_v4(&self) -> bool {
        self.router.is_v4()
    }

    /// The tuple of a flow's packets as its client sends them, and its VIP. Flows take turns at the VIPs, and then
    /// at the clients; ports are not used again before all others were.
    pub(super) fn flow(&self, number: u32) -> (Tuple, usize) {
        self.tuple(number, *FLOW_PORTS.start(), FLOW_PORTS.len())
    }

    /// The same for a probe.
    pub(super) fn probe(&self, number: u32) -> (Tuple, usize) {
        self.tuple(number, PROBE_PORTS.start, PROBE_PORTS.len())
    }

    fn tuple(&self, number: u32, first_port: u16, ports: usize) -> (Tuple, usize) {
        let number = number as usize;
        let (vip, turn) = (number % self.vips.len(), number / self.vips.len());
        let (client, turn) =
            (turn % self.clients.count as usize, turn / self.clients.count as usize);
        let Vip { protocol, address, port, .. } = self.vips[vip];
        let src = Address(self.clients.first.0 + client as u128);
        let sport = first_port + u16::try_from(turn % ports).unwrap_or_default();
        (Tuple { src, dst: address, sport, dport: port, protocol }, vip)
    }

    /// Checks what clap can't: that everything fits together.
    pub(super) fn check(&self) -> Result<(), String> {
        let v4 = self.is_v4();
        let all = self.vips.iter().map(|vip| vip.address);
        let all = all.chain(self.vips.iter().filter_map(|vip| vip.masquerade));
        let all = all.chain(self.backends.iter().map(|backend| backend.0));
        for address in all.chain(self.gateways).chain([self.clients.first]) {
            if address.is_v4() != v4 {
                return Err(format!("{address:?} is not of the family of {:?}", self.router));
            }
        }
        let least = self.vips.iter().map(|vip| frame::shortest(v4, vip.protocol)).max();
        let size = self.frame_len + frame::FCS;
        if least.is_some_and(|least| size < least) {
            let least = least.unwrap_or_default();
            return Err(format!(
                "--size {size}: the shortest frame of these flows has {least} bytes"
            ));
        }
        let room = self.vips.len() * self.clients.count as usize * FLOW_PORTS.len();
        if self.flows as usize > room / 2 {
            return Err(format!("--flows {}: give more --clients", self.flows));
        }
        Ok(())
    }

    /// The addresses on our side of a link: the clients' first, then the backends'.
    pub(super) fn own(&self) -> [HashSet<Address>; 2] {
        let clients =
            (0..self.clients.count).map(|n| Address(self.clients.first.0 + u128::from(n)));
        let clients = clients.chain([self.router]).collect();
        [clients, self.backends.iter().map(|backend| backend.0).collect()]
    }
}

impl FromStr for Vip {
    type Err = String;

    /// `tcp:203.0.113.10:80`, or with what backends see as source: `udp:203.0.113.11:53,masquerade=10.0.1.1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected tcp|udp:ADDRESS:PORT[,masquerade=ADDRESS]";
        let (vip, masquerade) = match text.split_once(",masquerade=") {
            Some((vip, address)) => (vip, Some(address.parse::<IpAddr>().map_err(|_| expected)?)),
            None => (text, None),
        };
        let (protocol, address) = vip.split_once(':').ok_or(expected)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(expected.into()),
        };
        let address: SocketAddr = address.parse().map_err(|_| expected)?;
        let port = address.port();
        let masquerade = masquerade.map(Into::into);
        Ok(Self { protocol, address: address.ip().into(), port, masquerade })
    }
}

/// The addresses of the table above.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    pub(super) router: IpAddr,
    pub(super) gateways: [IpAddr; 2],
    pub(super) first_client: IpAddr,
    pub(super) backends: [SocketAddr; 2],
}

impl Defaults {
    pub(super) const V4: Self = Self {
        router: v4([192, 0, 2, 2]),
        gateways: [v4([192, 0, 2, 1]), v4([10, 0, 1, 1])],
        first_client: v4([198, 18, 0, 1]),
        backends: [
            SocketAddr::new(v4([10, 0, 1, 10]), BACKEND_PORT),
            SocketAddr::new(v4([10, 0, 1, 11]), BACKEND_PORT),
        ],
    };
    pub(super) const V6: Self = Self {
        router: v6(1, 2),
        gateways: [v6(1, 1), v6(2, 1)],
        first_client: v6(0xc, 1),
        backends: [
            SocketAddr::new(v6(2, 0x10), BACKEND_PORT),
            SocketAddr::new(v6(2, 0x11), BACKEND_PORT),
        ],
    };
}

const fn v4([a, b, c, d]: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// In 2001:db8::/32.
const fn v6(net: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, last))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A TCP and a masqueraded UDP VIP over the default network.
    pub(in crate::traffic) fn plan(v6: bool) -> Plan {
        let defaults = if v6 { Defaults::V6 } else { Defaults::V4 };
        let Defaults { router, gateways, first_client, backends } = defaults;
        let vips = if v6 {
            ["tcp:[2001:db8:53::10]:80", "udp:[2001:db8:53::11]:53,masquerade=2001:db8:2::1"]
        } else {
            ["tcp:203.0.113.10:80", "udp:203.0.113.11:53,masquerade=10.0.1.1"]
        };
        Plan {
            vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(),
            backends: backends.map(|backend| (backend.ip().into(), backend.port())).into(),
            clients: Clients { first: first_client.into(), count: 4 },
            router: router.into(),
            gateways: gateways.map(Into::into),
            frame_len: 128 - frame::FCS,
            flows: 20,
            rate: 10_000.0,
            renewals: 0.0,
            window: None,
        }
    }

    #[test]
    fn the_default_network_is_the_one_of_the_table() {
        let v6 = plan(true);
        assert_eq!(
            format!("{:?} {:?}", v6.router, v6.gateways),
            "2001:db8:1::2 [2001:db8:1::1, 2001:db8:2::1]"
        );
        assert_eq!(format!("{:?}", v6.backends[1]), "(2001:db8:2::11, 8080)");
        let v4 = plan(false);
        assert_eq!(format!("{:?} {:?}", v4.router, v4.gateways), "192.0.2.2 [192.0.2.1, 10.0.1.1]");
        assert_eq!(
            format!("{:?} {:?}", v4.backends[1], v4.clients.first),
            "(10.0.1.11, 8080) 198.18.0.1"
        );
        assert_eq!((v4.check(), v6.check()), (Ok(()), Ok(())));
    }

    #[test]
    fn flows_have_tuples_of_their_own_that_probes_never_have() {
        let plan = plan(false);
        let flows: HashSet<Tuple> = (0..10_000).map(|n| plan.flow(n).0).collect();
        let probes: HashSet<Tuple> = (0..4096).map(|n| plan.probe(n).0).collect();
        assert_eq!((flows.len(), probes.len()), (10_000, 4096));
        assert!(flows.is_disjoint(&probes));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let fine = plan(false);
        let short = Plan { frame_len: 64 - frame::FCS, ..fine.clone() };
        assert!(short.check().unwrap_err().contains("the shortest frame of these flows has 76"));
        let mixed = Plan { gateways: [fine.gateways[0], plan(true).gateways[1]], ..fine };
        assert!(mixed.check().unwrap_err().contains("is not of the family"));
        assert!("icmp:10.0.0.1:1".parse::<Vip>().is_err());
    }
}
