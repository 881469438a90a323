//! What the kernel has told us so far, and the workers' table made of it. No I/O.
//!
//! Invariant: after a complete listing, applying the kernel's notifications in order gives what a new listing would
//! give; where a notification does not say enough for that, [`Observed::apply`] says [`Effect::Doubtful`].

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::fib::{FibSpec, Mac, NeighborSpec, PortId, PortSpec, RouteSpec, RouteTo};
use rtnetlink::packet_core::NLM_F_REPLACE;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::RouteMessage;

use super::message::{self, AddressFacts, Hop, RouteKey, Target};
use super::mirror::MirroredPort;

/// What a notification did to the mirrored state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Effect {
    /// Nothing that the table shows.
    Unchanged,
    /// The table may differ.
    Changed,
    /// More may have changed than was said: list again.
    Doubtful,
}

/// Links, addresses, routes and neighbours as the kernel described them.
#[derive(Debug)]
pub(super) struct Observed {
    /// In order of port ids.
    ports: Vec<MirroredPort>,
    /// Interfaces that are up.
    up: BTreeSet<u32>,
    addresses: BTreeMap<(u32, IpAddr), AddressFacts>,
    routes: BTreeMap<RouteKey, Target>,
    /// Keys under which the kernel has more routes than the one above.
    shadowing: BTreeSet<RouteKey>,
    /// On our ports only.
    neighbors: BTreeMap<(u32, IpAddr), Mac>,
}

impl Observed {
    pub(super) fn new(ports: Vec<MirroredPort>) -> Self {
        Self {
            ports,
            up: BTreeSet::new(),
            addresses: BTreeMap::new(),
            routes: BTreeMap::new(),
            shadowing: BTreeSet::new(),
            neighbors: BTreeMap::new(),
        }
    }

    /// Takes over one entry of a listing.
    pub(super) fn list(&mut self, message: &RouteNetlinkMessage) {
        if let RouteNetlinkMessage::NewRoute(route) = message {
            let Some((key, target)) = message::route(route) else { return };
            match self.routes.entry(key) {
                Entry::Vacant(place) => {
                    place.insert(target);
                }
                // Routes of equal prefix and metric are listed in the kernel's order: the first one counts.
                Entry::Occupied(_) => {
                    self.shadowing.insert(key);
                }
            }
        } else {
            self.apply(0, message);
        }
    }

    /// Takes over a notification; `flags` are those of its netlink header.
    pub(super) fn apply(&mut self, flags: u16, message: &RouteNetlinkMessage) -> Effect {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.link(link, is_up(link)),
            RouteNetlinkMessage::DelLink(link) => self.link(link, false),
            RouteNetlinkMessage::NewAddress(address) => {
                let Some((index, ip, facts)) = message::address(address) else {
                    return Effect::Doubtful;
                };
                changed(self.addresses.insert((index, ip), facts) != Some(facts))
            }
            RouteNetlinkMessage::DelAddress(address) => {
                if let Some((index, ip, _)) = message::address(address) {
                    self.addresses.remove(&(index, ip));
                }
                // Routes that preferred this source are flushed, and other addresses promoted, partly without a word.
                Effect::Doubtful
            }
            RouteNetlinkMessage::NewRoute(route) => self.new_route(flags, route),
            RouteNetlinkMessage::DelRoute(route) => self.del_route(route),
            RouteNetlinkMessage::NewNeighbour(neighbor) => match message::neighbor(neighbor) {
                Some((index, ip, mac)) => self.neighbor(index, ip, mac),
                None => Effect::Unchanged,
            },
            RouteNetlinkMessage::DelNeighbour(neighbor) => match message::neighbor(neighbor) {
                Some((index, ip, _)) => self.neighbor(index, ip, None),
                None => Effect::Unchanged,
            },
            _ => Effect::Unchanged,
        }
    }

    fn link(&mut self, link: &LinkMessage, up: bool) -> Effect {
        let index = link.header.index;
        let moved = if up { self.up.insert(index) } else { self.up.remove(&index) };
        // The kernel flushes IPv4 routes of a link that goes down without telling.
        if moved { Effect::Doubtful } else { Effect::Unchanged }
    }

    fn new_route(&mut self, flags: u16, route: &RouteMessage) -> Effect {
        let Some((key, target)) = message::route(route) else { return Effect::Unchanged };
        let alone = !self.shadowing.contains(&key);
        match self.routes.get(&key) {
            Some(known) if *known == target => return Effect::Unchanged,
            Some(known) if known.same_route(&target) => {}
            Some(_) if alone && flags & NLM_F_REPLACE != 0 => {}
            // One of several of this prefix and metric: only a listing tells which one comes first.
            Some(_) => return Effect::Doubtful,
            None => {}
        }
        self.routes.insert(key, target);
        Effect::Changed
    }

    fn del_route(&mut self, route: &RouteMessage) -> Effect {
        let Some((key, target)) = message::route(route) else { return Effect::Unchanged };
        let alone = !self.shadowing.contains(&key);
        match self.routes.get(&key) {
            None => Effect::Unchanged,
            Some(known) if alone && known.same_route(&target) => {
                self.routes.remove(&key);
                Effect::Changed
            }
            // One of several next hops, or one of several routes of this prefix and metric.
            Some(_) => Effect::Doubtful,
        }
    }

    fn neighbor(&mut self, index: u32, ip: IpAddr, mac: Option<Mac>) -> Effect {
        if self.port(index).is_none() || ip.is_multicast() {
            return Effect::Unchanged;
        }
        let before = match mac {
            Some(mac) => self.neighbors.insert((index, ip), mac),
            None => self.neighbors.remove(&(index, ip)),
        };
        changed(before != mac)
    }

    /// The port an interface is the twin of.
    fn port(&self, index: u32) -> Option<PortId> {
        let position = self.ports.iter().position(|port| port.index == index)?;
        PortId::try_from(position).ok()
    }

    /// The workers' table.
    pub(super) fn spec(&self) -> FibSpec {
        let mut routes: Vec<RouteSpec> = Vec::with_capacity(self.routes.len());
        for (key, target) in &self.routes {
            // Sorted by prefix and metric: the first usable one decides.
            if routes.last().is_some_and(|last| last.prefix == key.prefix) {
                continue;
            }
            routes.extend(self.egress(target).map(|to| RouteSpec { prefix: key.prefix, to }));
        }
        let neighbors = self.neighbors.iter().filter_map(|(&(index, address), &mac)| {
            Some(NeighborSpec { port: self.port(index)?, address, mac })
        });
        let locals: BTreeSet<IpAddr> = self.addresses.keys().map(|(_, ip)| *ip).collect();
        FibSpec {
            ports: self.ports.iter().map(|port| self.port_spec(port)).collect(),
            routes,
            neighbors: neighbors.collect(),
            locals: locals.into_iter().collect(),
        }
    }

    /// Of several next hops the first usable one on a port of ours; `None` when no hop is usable.
    fn egress(&self, target: &Target) -> Option<RouteTo> {
        let Target::Hops(hops) = target else { return Some(RouteTo::Nowhere) };
        let mut usable = hops.iter().filter(|hop| hop.usable).peekable();
        usable.peek()?;
        let ours =
            |hop: &Hop| Some(RouteTo::Port { port: self.port(hop.index)?, gateway: hop.gateway });
        Some(usable.find_map(ours).unwrap_or(RouteTo::Nowhere))
    }

    /// A port with its addresses: configured ones in their order, then others, link-local ones last.
    fn port_spec(&self, port: &MirroredPort) -> PortSpec {
        let on_port = self.addresses.iter().filter(|((index, _), _)| *index == port.index);
        let mut ranked: Vec<_> = on_port
            .filter(|(_, facts)| facts.usable)
            .map(|(&(_, ip), facts)| {
                let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
                let place = port.configured.iter().position(|configured| *configured == ip);
                (link_local, place.unwrap_or(usize::MAX), facts.secondary, ip)
            })
            .collect();
        ranked.sort_unstable();
        let addresses = ranked.into_iter().map(|(_, _, _, ip)| ip).collect();
        PortSpec { mac: port.mac, mtu: port.mtu, addresses, mss_clamp: port.mss_clamp }
    }
}

fn is_up(link: &LinkMessage) -> bool {
    link.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

fn changed(differs: bool) -> Effect {
    if differs { Effect::Changed } else { Effect::Unchanged }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
    use rtnetlink::packet_route::route::{
        RouteAttribute, RouteFlags, RouteLwEnCapType, RouteNextHop, RouteNextHopFlags,
    };
    use rtnetlink::{RouteMessageBuilder, RouteNextHopBuilder};

    use super::*;

    const TWIN: u32 = 7;

    fn observed() -> Observed {
        let mac = [2, 0, 0, 0, 0, 1];
        Observed::new(vec![MirroredPort {
            index: TWIN,
            mac,
            mtu: 1500,
            mss_clamp: None,
            configured: vec![],
        }])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn builder() -> RouteMessageBuilder {
        let builder = RouteMessageBuilder::<IpAddr>::new();
        builder.destination_prefix(ip("10.0.0.0"), 8).expect("a prefix")
    }

    fn via(gateway: &str, metric: u32) -> RouteMessage {
        let builder = builder().output_interface(TWIN).priority(metric);
        builder.gateway(ip(gateway)).expect("IPv4").build()
    }

    fn hop(index: u32, gateway: &str) -> RouteNextHop {
        let builder = RouteNextHopBuilder::new_ipv4().interface(index);
        builder.via(ip(gateway)).expect("IPv4").build()
    }

    /// Where 10.0.0.0/8 leads with these routes.
    fn leads(routes: Vec<RouteMessage>) -> Option<RouteTo> {
        let mut observed = observed();
        routes.into_iter().for_each(|route| observed.list(&RouteNetlinkMessage::NewRoute(route)));
        observed.spec().routes.first().map(|route| route.to)
    }

    fn to(gateway: &str) -> Option<RouteTo> {
        Some(RouteTo::Port { port: 0, gateway: Some(ip(gateway)) })
    }

    #[test]
    fn routes_and_hops_without_a_link_are_passed_over() {
        let mut dead = via("192.0.2.1", 1);
        dead.header.flags |= RouteFlags::Linkdown;
        assert_eq!(leads(vec![dead.clone()]), None);
        assert_eq!(leads(vec![dead, via("192.0.2.2", 2)]), to("192.0.2.2"));

        let mut first = hop(TWIN, "192.0.2.1");
        first.flags |= RouteNextHopFlags::Dead;
        let hops = vec![first, hop(1, "198.51.100.1"), hop(TWIN, "192.0.2.3")];
        assert_eq!(leads(vec![builder().multipath(hops).build()]), to("192.0.2.3"));
    }

    #[test]
    fn what_workers_cannot_do_leads_nowhere() {
        let mut encapsulated = via("192.0.2.1", 0);
        encapsulated.attributes.push(RouteAttribute::EncapType(RouteLwEnCapType::Mpls));
        assert_eq!(leads(vec![encapsulated]), Some(RouteTo::Nowhere));
        let elsewhere = vec![hop(1, "198.51.100.1"), hop(2, "198.51.100.2")];
        assert_eq!(leads(vec![builder().multipath(elsewhere).build()]), Some(RouteTo::Nowhere));
    }

    #[test]
    fn routes_of_other_tables_and_types_of_service_are_ignored() {
        let mut other = via("192.0.2.1", 0);
        other.attributes.push(RouteAttribute::Table(1000));
        let mut service = via("192.0.2.1", 0);
        service.header.tos = 16;
        assert_eq!(leads(vec![other, service]), None);
    }

    #[test]
    fn a_tentative_address_is_local_but_no_source() {
        let mut message = AddressMessage::default();
        message.header.index = TWIN;
        message.attributes.push(AddressAttribute::Address(ip("2001:db8::1")));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Tentative));
        let mut observed = observed();
        let news = RouteNetlinkMessage::NewAddress(message.clone());
        assert_eq!(observed.apply(0, &news), Effect::Changed);
        assert_eq!(observed.spec().locals, [ip("2001:db8::1")]);
        assert!(observed.spec().ports[0].addresses.is_empty());

        message.attributes.truncate(1);
        let news = RouteNetlinkMessage::NewAddress(message);
        assert_eq!(observed.apply(0, &news), Effect::Changed);
        assert_eq!(observed.spec().ports[0].addresses, [ip("2001:db8::1")]);
        assert_eq!(observed.apply(0, &news), Effect::Unchanged);
    }
}
