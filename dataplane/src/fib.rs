//! Forwarding information base: for a destination, the port to leave by and the MAC address to write.
//!
//! Immutable; control mirrors the kernel's routes, neighbours and addresses into a [`FibSpec`] and builds a new one
//! whenever they change. A resolved neighbour is a host route, so one longest-prefix match answers everything.
//! IPv4: a 16-8-8 trie. IPv6: see [`v6`].

mod v6;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::conntrack::key::{KeyV4, KeyV6};
use crate::flow::Address;
use crate::hash::{halves, high32};
use crate::wire::ordinary::MacWord;
use v6::RoutesV6;

/// Index of a port in the order of the configuration.
pub type PortId = u16;
/// An Ethernet address in wire order.
pub type Mac = [u8; 6];

/// Everything a [`Fib`] is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FibSpec {
    /// The ports, in order of their ids.
    pub ports: Vec<PortSpec>,
    /// Routes of the kernel's main table, in any order.
    pub routes: Vec<RouteSpec>,
    /// Usable neighbour entries on our ports.
    pub neighbors: Vec<NeighborSpec>,
    /// All addresses of the node, on any interface: packets to them are the kernel's.
    pub locals: Vec<IpAddr>,
}

/// A port as the engine sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSpec {
    /// Own Ethernet address, source of all frames sent.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Addresses of the kernel twin, primary first in each family: sources of ICMP errors and masquerade.
    pub addresses: Vec<IpAddr>,
    /// The largest TCP segments that connections through the port may agree on, if that is limited.
    pub mss_clamp: Option<MssClamp>,
}

/// Largest TCP segments, in bytes without headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MssClamp {
    /// Over IPv4.
    pub v4: u16,
    /// Over IPv6.
    pub v6: u16,
}

impl MssClamp {
    /// The same for both families.
    #[must_use]
    pub fn of(bytes: u16) -> Self {
        Self { v4: bytes, v6: bytes }
    }

    /// What fits packets of this size behind headers without options.
    #[must_use]
    pub fn of_mtu(mtu: u16) -> Self {
        Self { v4: mtu.saturating_sub(40), v6: mtu.saturating_sub(60) }
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// Destination prefix.
    pub prefix: IpNet,
    /// Where it leads.
    pub to: RouteTo,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTo {
    /// Out of a port, to a gateway or directly to the destination.
    Port {
        /// The port.
        port: PortId,
        /// Next hop; `None` for a connected prefix.
        gateway: Option<IpAddr>,
    },
    /// Nowhere: unreachable, blackhole, or an interface that is not ours.
    Nowhere,
}

/// A neighbour with a known MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborSpec {
    /// On this port.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
}

/// What a lookup says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send.
    Egress {
        /// Out of this port,
        port: PortId,
        /// to this MAC address.
        mac: Mac,
    },
    /// Send out of this port once `via` (or the destination itself) is resolved.
    Unresolved {
        /// The port.
        port: PortId,
        /// The gateway, if there is one.
        via: Option<Address>,
    },
    /// The node's own.
    Local,
    /// No route.
    Nowhere,
}

/// A route out of a port to a known neighbour, ready to write.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// Destination and source MAC address, as a frame begins with.
    pub ethernet: [u8; 12],
    /// The port to leave by.
    pub port: PortId,
    /// Its MTU in bytes; 0 for a route that is no hop, so that nothing fits.
    pub mtu: u16,
}

/// The table workers read.
#[derive(Clone, Debug)]
pub struct Fib {
    ports: Vec<PortSpec>,
    macs: Vec<MacWord>,
    routes: Vec<Route>,
    /// Of every route, in the same order.
    hops: Vec<Hop>,
    v4: TrieV4,
    v6: RoutesV6,
}

impl Fib {
    /// Compiles a table.
    #[must_use]
    pub fn new(spec: &FibSpec) -> Self {
        let mut rules: Vec<(IpNet, Route)> = Vec::new();
        for route in &spec.routes {
            rules.push((route.prefix, resolve(route.to, spec)));
        }
        for neighbor in &spec.neighbors {
            let to = Route::Egress { port: neighbor.port, mac: neighbor.mac };
            // A neighbour counts only where a connected route of its port covers it; a stale entry must not attract.
            let covered =
                spec.routes.iter().filter(|route| route.prefix.contains(&neighbor.address));
            let best = covered.max_by_key(|route| route.prefix.prefix_len());
            let connected = RouteTo::Port { port: neighbor.port, gateway: None };
            if best.is_some_and(|route| route.to == connected) {
                rules.push((IpNet::from(neighbor.address), to));
            }
        }
        for local in &spec.locals {
            rules.push((IpNet::from(*local), Route::Local));
        }
        // Stable: of equal prefixes the later rule wins, so a local address beats a neighbour.
        rules.sort_by_key(|(prefix, _)| prefix.prefix_len());
        let mut routes = vec![Route::Nowhere];
        let (mut v4, mut v6) = (TrieV4::default(), Vec::new());
        for (prefix, route) in rules {
            let index = intern(&mut routes, route);
            match prefix {
                IpNet::V4(net) => v4.insert(net.network().to_bits(), net.prefix_len(), index),
                IpNet::V6(net) => {
                    v6.push((net.network().to_bits(), net.broadcast().to_bits(), index));
                }
            }
        }
        let hops = routes.iter().map(|&route| hop(route, &spec.ports)).collect();
        let macs = spec.ports.iter().map(|port| port.mac.into()).collect();
        Self { ports: spec.ports.clone(), macs, routes, hops, v4, v6: RoutesV6::new(&v6) }
    }

    /// The way to an IPv4 destination, in the byte order of [`KeyV4`]. No hop has an MTU of 0.
    #[must_use]
    #[inline]
    pub fn hop_v4(&self, to: &KeyV4) -> &Hop {
        let destination = high32(to.addresses).swap_bytes();
        &self.hops[self.v4.find(destination) as usize]
    }

    /// The same for IPv6.
    #[must_use]
    #[inline]
    pub fn hop_v6(&self, to: &KeyV6) -> &Hop {
        let [high, low] = to.dst.map(u64::swap_bytes);
        &self.hops[self.v6.find((high, low)) as usize]
    }

    /// A port's MAC address, for recognising it in frames.
    #[must_use]
    #[inline]
    pub fn mac_word(&self, port: PortId) -> MacWord {
        self.macs[usize::from(port)]
    }

    /// The route of a destination.
    #[must_use]
    #[inline]
    pub fn route(&self, destination: Address) -> Route {
        let index = if destination.is_v4() {
            self.v4.find(destination.low32())
        } else {
            self.v6.find(halves(destination))
        };
        self.routes[index as usize]
    }

    /// Number of ports.
    #[must_use]
    pub fn ports(&self) -> PortId {
        PortId::try_from(self.ports.len()).unwrap_or(PortId::MAX)
    }

    /// A port's facts. Panics on an id that is not configured: ids come from the configuration only.
    #[must_use]
    #[inline]
    pub fn port(&self, port: PortId) -> &PortSpec {
        &self.ports[usize::from(port)]
    }

    /// The largest TCP segment that a connection through both ports may agree on; `None` leaves it to its ends.
    #[must_use]
    #[inline]
    pub fn mss(&self, ports: [PortId; 2], v4: bool) -> Option<u16> {
        let clamps = ports.into_iter().filter_map(|port| self.port(port).mss_clamp);
        clamps.map(|clamp| if v4 { clamp.v4 } else { clamp.v6 }).min()
    }

    /// Whether any port limits it.
    #[must_use]
    pub fn clamps_mss(&self) -> bool {
        self.ports.iter().any(|port| port.mss_clamp.is_some())
    }

    /// The primary address of a port in a family.
    #[must_use]
    pub fn port_address(&self, port: PortId, v4: bool) -> Option<Address> {
        let addresses = &self.port(port).addresses;
        addresses.iter().find(|address| address.is_ipv4() == v4).map(|&address| address.into())
    }
}

fn hop(route: Route, ports: &[PortSpec]) -> Hop {
    let mut hop = Hop { ethernet: [0; 12], port: 0, mtu: 0 };
    if let Route::Egress { port, mac } = route
        && let Some(spec) = ports.get(usize::from(port))
    {
        hop.ethernet[..6].copy_from_slice(&mac);
        hop.ethernet[6..].copy_from_slice(&spec.mac);
        (hop.port, hop.mtu) = (port, spec.mtu);
    }
    hop
}

fn resolve(to: RouteTo, spec: &FibSpec) -> Route {
    let RouteTo::Port { port, gateway } = to else { return Route::Nowhere };
    let Some(gateway) = gateway else { return Route::Unresolved { port, via: None } };
    let known = spec.neighbors.iter().find(|n| n.port == port && n.address == gateway);
    match known {
        Some(neighbor) => Route::Egress { port, mac: neighbor.mac },
        None => Route::Unresolved { port, via: Some(gateway.into()) },
    }
}

fn intern(routes: &mut Vec<Route>, route: Route) -> u32 {
    // Equal routes cluster at the end: a prefix list names few next hops, neighbours one each.
    let recent = routes.len().saturating_sub(16);
    if let Some(found) = routes[recent..].iter().position(|known| *known == route) {
        return u32::try_from(recent + found).expect("routes fit 32 bits");
    }
    routes.push(route);
    u32::try_from(routes.len() - 1).expect("routes fit 32 bits")
}

/// Marks an entry that leads to a block of the next level; the rest is the block's number.
const BLOCK: u32 = 1 << 31;

#[derive(Clone, Debug)]
struct TrieV4 {
    root: Box<[u32; 1 << 16]>,
    blocks: Vec<[u32; 256]>,
}

impl Default for TrieV4 {
    fn default() -> Self {
        let root = vec![0; 1 << 16].into_boxed_slice().try_into();
        Self { root: root.expect("it has this length"), blocks: Vec::new() }
    }
}

impl TrieV4 {
    #[inline]
    fn find(&self, address: u32) -> u32 {
        let mut entry = self.root[(address >> 16) as usize];
        if entry & BLOCK != 0 {
            entry = self.blocks[(entry & !BLOCK) as usize][(address >> 8) as usize & 255];
            if entry & BLOCK != 0 {
                entry = self.blocks[(entry & !BLOCK) as usize][address as usize & 255];
            }
        }
        entry
    }

    /// Prefixes arrive shortest first, so writing a range never hides a longer prefix.
    fn insert(&mut self, network: u32, len: u8, route: u32) {
        let high = (network >> 16) as usize;
        if len <= 16 {
            let count = 1usize << (16 - len);
            self.root[high..high + count].fill(route);
            return;
        }
        let block = Self::descend(&mut self.root[high], &mut self.blocks);
        let middle = (network >> 8) as usize & 255;
        if len <= 24 {
            let count = 1usize << (24 - len);
            self.blocks[block][middle..middle + count].fill(route);
            return;
        }
        let mut entry = self.blocks[block][middle];
        let leaf = Self::descend(&mut entry, &mut self.blocks);
        self.blocks[block][middle] = entry;
        let low = network as usize & 255;
        let count = 1usize << (32 - len);
        self.blocks[leaf][low..low + count].fill(route);
    }

    fn descend(entry: &mut u32, blocks: &mut Vec<[u32; 256]>) -> usize {
        if *entry & BLOCK == 0 {
            blocks.push([*entry; 256]);
            *entry = BLOCK | u32::try_from(blocks.len() - 1).expect("blocks fit 31 bits");
        }
        (*entry & !BLOCK) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spec(routes: &[(&str, u16, Option<&str>)], neighbors: &[(u16, &str, u8)]) -> FibSpec {
        let parse = |text: &str| text.parse().expect("a valid address");
        FibSpec {
            ports: vec![PortSpec::default(); 4],
            routes: routes
                .iter()
                .map(|(prefix, port, gateway)| RouteSpec {
                    prefix: prefix.parse().expect("a valid prefix"),
                    to: RouteTo::Port { port: *port, gateway: gateway.map(parse) },
                })
                .collect(),
            neighbors: neighbors
                .iter()
                .map(|(port, address, mac)| NeighborSpec {
                    port: *port,
                    address: parse(address),
                    mac: [*mac; 6],
                })
                .collect(),
            locals: vec![],
        }
    }

    fn route(fib: &Fib, address: &str) -> Route {
        fib.route(address.parse::<IpAddr>().expect("a valid address").into())
    }

    #[test]
    fn longest_prefix_wins_and_neighbours_resolve() {
        for (net, gw, host, other, far) in [
            ("10.0.0.0/24", "10.0.0.1", "10.0.0.9", "10.0.0.10", "192.0.2.1"),
            ("fd00::/64", "fd00::1", "fd00::9", "fd00::a", "2001:db8::1"),
        ] {
            let default = if net.contains(':') { "::/0" } else { "0.0.0.0/0" };
            let fib = Fib::new(&spec(
                &[(net, 1, None), (default, 1, Some(gw))],
                &[(1, gw, 1), (1, host, 9), (2, other, 7)],
            ));
            assert_eq!(route(&fib, far), Route::Egress { port: 1, mac: [1; 6] });
            assert_eq!(route(&fib, host), Route::Egress { port: 1, mac: [9; 6] });
            assert_eq!(route(&fib, other), Route::Unresolved { port: 1, via: None }, "wrong port");
        }
    }

    #[test]
    fn unresolved_gateways_are_named_and_locals_win() {
        let mut spec = spec(&[("10.0.0.0/8", 0, Some("172.16.0.1"))], &[]);
        spec.locals = vec!["10.1.2.3".parse().expect("valid")];
        let fib = Fib::new(&spec);
        let via = Some(Address::v4([172, 16, 0, 1]));
        assert_eq!(route(&fib, "10.9.9.9"), Route::Unresolved { port: 0, via });
        assert_eq!(route(&fib, "10.1.2.3"), Route::Local);
        assert_eq!(route(&fib, "11.0.0.1"), Route::Nowhere);
        assert_eq!(route(&fib, "fd00::1"), Route::Nowhere);
    }

    proptest! {
        #[test]
        fn equals_a_linear_search(
            prefixes in prop::collection::vec((any::<u32>(), 0u8..=32, 0u16..4), 0..40),
            probes in prop::collection::vec(any::<(prop::sample::Index, u16)>(), 50),
            v6 in any::<bool>(),
        ) {
            let widen = |bits: u32| -> IpAddr {
                if v6 { std::net::Ipv6Addr::from_bits(u128::from(bits) << 96).into() } else { std::net::Ipv4Addr::from_bits(bits).into() }
            };
            let mut rules: Vec<(IpNet, u16)> = prefixes
                .iter()
                .map(|&(bits, len, port)| (IpNet::new(widen(bits), len).expect("valid").trunc(), port))
                .collect();
            rules.sort();
            rules.dedup_by_key(|rule| rule.0);
            let fib = Fib::new(&FibSpec {
                ports: vec![PortSpec::default(); 4],
                routes: rules.iter().map(|&(prefix, port)| RouteSpec { prefix, to: RouteTo::Port { port, gateway: None } }).collect(),
                ..FibSpec::default()
            });
            for (index, noise) in probes {
                let near = rules.get(index.index(rules.len().max(1))).map_or(0, |(net, _)| match net.network() {
                    IpAddr::V4(ip) => ip.to_bits(),
                    IpAddr::V6(ip) => (ip.to_bits() >> 96) as u32,
                });
                let address = widen(near ^ u32::from(noise));
                let best = rules.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                let expected = best.map_or(Route::Nowhere, |&(_, port)| Route::Unresolved { port, via: None });
                prop_assert_eq!(fib.route(address.into()), expected);
            }
        }
    }
}
