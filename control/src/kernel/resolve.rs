//! MAC addresses of next hops: asks the kernel to find those that are missing and to check those that are in use.
//!
//! Job: workers that meet an unresolved next hop, and control for backends it expects traffic to, put it into a bounded
//! queue; gateways of routes come from the table. Each is asked for with a netlink message that means "as if a packet
//! were sent" (NTF_USE): the kernel sends ARP or NDP through the twin, and the mirror sees the answer.
//! The kernel sees no packet of ours, so without being asked again it would keep old answers or forget them: what
//! resolved is asked for again every [`REFRESH`] until it stops answering.
//! What an operator has set for good (`ip neighbour ... nud permanent`) is not asked for: the question would undo it.
//! Invariants: one question per address and [`REPEAT`]; at most [`CAPACITY`] addresses are watched, so a scan of a
//! connected prefix costs bounded work. What is refused comes again with the next packet.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use dataplane::fib::{FibSpec, PortId, RouteTo};
use dataplane::flow::Address;
use futures::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;

use super::bell::{Bell, Pace};

/// A next hop: the port and the address on its link.
pub type NextHop = (PortId, Address);

/// Addresses watched at most.
pub const CAPACITY: usize = 4096;
/// Time between two questions about an unresolved address.
const REPEAT: Duration = Duration::from_secs(1);
/// Time between two questions about a resolved address; the kernel calls an answer good for about 30 s.
const REFRESH: Duration = Duration::from_secs(20);
/// An address that did not resolve is forgotten after this time.
const FORGET: Duration = Duration::from_secs(3);
/// Requests handled before other tasks get their turn.
const BATCH: usize = 64;

/// What happened to requests; read at any time.
#[derive(Debug, Default)]
pub struct ResolverCounters {
    /// Questions put to the kernel.
    pub asked: AtomicU64,
    /// Questions the kernel refused, its neighbour table being full (gc_thresh3) or the twin down.
    pub failed: AtomicU64,
    /// Requests refused because [`CAPACITY`] addresses are watched.
    pub refused: AtomicU64,
}

/// Asks for next hops until it is dropped or the mirror ends. `twins` are the interface indexes of the ports' twins, in
/// order of port ids.
pub async fn run(
    netlink: Handle,
    twins: Vec<u32>,
    requests: Arc<ArrayQueue<NextHop>>,
    bell: Arc<Bell>,
    mut specs: watch::Receiver<Arc<FibSpec>>,
    counters: Arc<ResolverCounters>,
) {
    let mut watched = Watched::default();
    let (mut gateways, mut resolved) = known(&specs.borrow_and_update());
    let mut next_check = Instant::now();
    let mut pace = Pace::new(bell);
    loop {
        pace.wait().await;
        let now = Instant::now();
        match specs.has_changed() {
            Ok(true) => {
                (gateways, resolved) = known(&specs.borrow_and_update());
                next_check = now;
            }
            Ok(false) => {}
            Err(_) => return,
        }
        let mut due = Vec::new();
        for _ in 0..BATCH {
            let Some(hop) = requests.pop() else { break };
            match watched.want(hop, now) {
                Answer::Ask => due.push(hop),
                Answer::Asked => {}
                Answer::Full => {
                    counters.refused.fetch_add(1, Relaxed);
                }
            }
        }
        pace.found(!due.is_empty());
        if now >= next_check {
            next_check = now + REPEAT;
            due.extend(watched.refresh(&resolved, now));
            let missing = gateways.iter().filter(|hop| !watched.contains(hop)).copied();
            let missing: Vec<NextHop> = missing.collect();
            due.extend(missing.into_iter().filter(|hop| watched.want(*hop, now) == Answer::Ask));
        }
        for (port, address) in due {
            let Some(twin) = twins.get(usize::from(port)) else { continue };
            counters.asked.fetch_add(1, Relaxed);
            if let Err(error) = ask(&netlink, *twin, address.ip()).await {
                counters.failed.fetch_add(1, Relaxed);
                debug!(address = %address.ip(), %error, "the kernel does not resolve");
            }
        }
    }
}

/// Makes the kernel behave as if it had a packet for `address`, unless that has a MAC address for good.
async fn ask(netlink: &Handle, twin: u32, address: IpAddr) -> Result<(), rtnetlink::Error> {
    if is_permanent(netlink, twin, address).await? {
        return Ok(());
    }
    netlink
        .neighbours()
        .add(twin, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace()
        .execute()
        .await
}

/// Whether somebody has told the kernel the MAC address of `address`, so that it needs to ask nobody.
async fn is_permanent(
    netlink: &Handle,
    twin: u32,
    address: IpAddr,
) -> Result<bool, rtnetlink::Error> {
    let mut entry = NeighbourMessage::default();
    entry.header.ifindex = twin;
    let (family, destination) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    entry.header.family = family;
    entry.attributes.push(NeighbourAttribute::Destination(destination));
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(entry));
    message.header.flags = NLM_F_REQUEST;
    // An error is the answer when there is no entry yet.
    let answer = netlink.clone().request(message)?.next().await;
    Ok(answer.is_some_and(|answer| match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => {
            matches!(entry.header.state, NeighbourState::Permanent | NeighbourState::Noarp)
        }
        _ => false,
    }))
}

/// The gateways of routes, and what has a MAC address.
fn known(spec: &FibSpec) -> (HashSet<NextHop>, HashSet<NextHop>) {
    let gateways = spec.routes.iter().filter_map(|route| match route.to {
        RouteTo::Port { port, gateway } => Some((port, gateway?.into())),
        RouteTo::Nowhere => None,
    });
    let resolved = spec.neighbors.iter().map(|hop| (hop.port, hop.address.into()));
    (gateways.collect(), resolved.collect())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Ask,
    Asked,
    Full,
}

/// Next hops asked for, and when last.
#[derive(Debug, Default)]
struct Watched(HashMap<NextHop, Instant>);

impl Watched {
    fn contains(&self, hop: &NextHop) -> bool {
        self.0.contains_key(hop)
    }

    /// Whether to ask for a next hop somebody needs.
    fn want(&mut self, hop: NextHop, now: Instant) -> Answer {
        let full = self.0.len() >= CAPACITY;
        match self.0.get_mut(&hop) {
            Some(asked) if now < *asked + REPEAT => return Answer::Asked,
            Some(asked) => *asked = now,
            None if full => return Answer::Full,
            None => {
                self.0.insert(hop, now);
            }
        }
        Answer::Ask
    }

    /// Forgets what does not answer and returns what is due to be asked for again.
    fn refresh(&mut self, resolved: &HashSet<NextHop>, now: Instant) -> Vec<NextHop> {
        self.0.retain(|hop, asked| now < *asked + FORGET || resolved.contains(hop));
        let mut due = Vec::new();
        for (hop, asked) in &mut self.0 {
            if now >= *asked + REFRESH {
                *asked = now;
                due.push(*hop);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(n: u16) -> NextHop {
        let [high, low] = n.to_be_bytes();
        (0, Address::v4([10, 0, high, low]))
    }

    #[test]
    fn asks_once_per_second_and_address() {
        let (mut watched, start) = (Watched::default(), Instant::now());
        assert_eq!(watched.want(hop(1), start), Answer::Ask);
        assert_eq!(watched.want(hop(1), start + REPEAT / 2), Answer::Asked);
        assert_eq!(watched.want(hop(2), start + REPEAT / 2), Answer::Ask);
        assert_eq!(watched.want(hop(1), start + REPEAT), Answer::Ask);
    }

    #[test]
    fn keeps_what_answers_fresh_and_forgets_the_rest() {
        let (mut watched, start) = (Watched::default(), Instant::now());
        watched.want(hop(1), start);
        watched.want(hop(2), start);
        let resolved = HashSet::from([hop(1)]);
        assert!(watched.refresh(&resolved, start + FORGET).is_empty());
        assert!(watched.contains(&hop(1)) && !watched.contains(&hop(2)));
        assert_eq!(watched.refresh(&resolved, start + REFRESH), [hop(1)]);
        assert!(watched.refresh(&resolved, start + REFRESH + REPEAT).is_empty());
    }

    #[test]
    fn a_scan_is_refused_until_its_addresses_are_forgotten() {
        let (mut watched, start) = (Watched::default(), Instant::now());
        for n in 0..4096 {
            assert_eq!(watched.want(hop(n), start), Answer::Ask);
        }
        assert_eq!(watched.want(hop(4096), start), Answer::Full);
        watched.refresh(&HashSet::new(), start + FORGET);
        assert_eq!(watched.want(hop(4096), start + FORGET), Answer::Ask);
    }
}
