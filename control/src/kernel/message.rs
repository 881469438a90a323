//! Netlink messages, parsed once into what the mirror keeps; what workers cannot use becomes `None` here.

use std::net::IpAddr;

use dataplane::fib::Mac;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHopFlags,
    RouteType, RouteVia,
};

/// What tells routes of the main table apart. Sorts by prefix, then best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RouteKey {
    pub(super) prefix: IpNet,
    /// The kernel prefers the lowest.
    pub(super) metric: u32,
}

/// Where a route of the kernel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Out of an interface; several hops share the load.
    Hops(Vec<Hop>),
    /// Blackhole, unreachable, prohibit.
    Nowhere,
}

/// A next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    /// The interface; 0 for one that encapsulates, which no port of ours does.
    pub(super) index: u32,
    pub(super) gateway: Option<IpAddr>,
    /// Whether its link works.
    pub(super) usable: bool,
}

impl Target {
    /// Whether two descriptions mean the same route, whatever the state of the links.
    pub(super) fn same_route(&self, other: &Self) -> bool {
        let names = |target: &Self| match target {
            Self::Hops(hops) => hops.iter().map(|hop| (hop.index, hop.gateway)).collect(),
            Self::Nowhere => Vec::new(),
        };
        names(self) == names(other)
    }
}

/// A route of the main table; `None` for other tables and for local, broadcast, multicast, link-local, cached and
/// type-of-service routes.
pub(super) fn route(message: &RouteMessage) -> Option<(RouteKey, Target)> {
    let header = &message.header;
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => [0u8; 4].into(),
        AddressFamily::Inet6 => [0u8; 16].into(),
        _ => return None,
    };
    let (mut table, mut metric, mut destination) = (u32::from(header.table), 0, any);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(id) => table = *id,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(address) => destination = route_address(address)?,
            _ => {}
        }
    }
    let cached = header.flags.contains(RouteFlags::Cloned);
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.tos != 0 || cached {
        return None;
    }
    let prefix = IpNet::new(destination, header.destination_prefix_length).ok()?.trunc();
    // Link-local destinations mean something else on every link and are never forwarded.
    if matches!(prefix, IpNet::V6(net) if net.network().is_unicast_link_local()) {
        return None;
    }
    let target = match header.kind {
        RouteType::Unicast => Target::Hops(hops(message)),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Target::Nowhere,
        _ => return None,
    };
    Some((RouteKey { prefix, metric }, target))
}

fn hops(message: &RouteMessage) -> Vec<Hop> {
    for attribute in &message.attributes {
        if let RouteAttribute::MultiPath(hops) = attribute {
            let dead = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
            return hops
                .iter()
                .map(|next| {
                    hop(next.interface_index, &next.attributes, !next.flags.intersects(dead))
                })
                .collect();
        }
    }
    let index = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let dead = RouteFlags::Dead | RouteFlags::Linkdown;
    vec![hop(index.unwrap_or(0), &message.attributes, !message.header.flags.intersects(dead))]
}

fn hop(index: u32, attributes: &[RouteAttribute], usable: bool) -> Hop {
    let mut hop = Hop { index, gateway: None, usable };
    for attribute in attributes {
        match attribute {
            RouteAttribute::Gateway(address) => hop.gateway = route_address(address),
            RouteAttribute::Via(RouteVia::Inet(address)) => hop.gateway = Some((*address).into()),
            RouteAttribute::Via(RouteVia::Inet6(address)) => hop.gateway = Some((*address).into()),
            RouteAttribute::EncapType(_) => hop.index = 0,
            _ => {}
        }
    }
    hop
}

fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressFacts {
    /// IPv4: not the first of its subnet.
    pub(super) secondary: bool,
    /// May be a source: duplicate detection is over and found nothing.
    pub(super) usable: bool,
}

/// Interface index, address and facts.
pub(super) fn address(message: &AddressMessage) -> Option<(u32, IpAddr, AddressFacts)> {
    let (mut local, mut peer) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed;
    let facts = AddressFacts {
        secondary: flags.contains(AddressFlags::Secondary),
        usable: !flags.intersects(unusable) || flags.contains(AddressFlags::Optimistic),
    };
    // On point-to-point links the plain address is the peer's.
    Some((message.header.index, local.or(peer)?, facts))
}

/// Interface index, address and, when frames can be sent to it, MAC address.
pub(super) fn neighbor(message: &NeighbourMessage) -> Option<(u32, IpAddr, Option<Mac>)> {
    let header = &message.header;
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = Mac::try_from(bytes.as_slice()).ok()
            }
            _ => {}
        }
    }
    let usable = matches!(
        header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let of_routing = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !of_routing || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    // The kernel also keeps entries of groups and of addresses without a MAC (zero): nothing to send a packet to.
    let unicast = |mac: &Mac| *mac != [0; 6] && mac[0] & 1 == 0;
    Some((header.ifindex, address?, mac.filter(unicast).filter(|_| usable)))
}
