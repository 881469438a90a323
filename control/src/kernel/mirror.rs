//! Mirror of the kernel's routes, neighbours and addresses.
//!
//! Job: list everything once, then follow the kernel's notifications and publish a new [`FibSpec`] when it differs.
//! Invariants: what is published is complete; changes appear within about [`DEBOUNCE`] of the first one; lost or
//! ambiguous notifications lead to a new listing, and every [`RESYNC`] there is one anyway, so that no mistake lasts.
//!
//! What workers are given of routing: the main table, without policy rules and types of service. Of equal prefixes the
//! lowest metric wins. Of several next hops the first usable one on a port is taken; spreading is left to routing
//! protocols that give each gateway its own prefixes. Routes over interfaces that are no port, and blackholes, lead
//! nowhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::fib::{FibSpec, Mac, MssClamp};
use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout_at};
use tracing::{debug, warn};

use super::observed::{Effect, Observed};
use super::{KernelError, connect, io_error};

/// How long changes are collected before they are published.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// Time between listings that nothing asked for.
const RESYNC: Duration = Duration::from_secs(60);
/// Pause before a new start after an error.
const RETRY: Duration = Duration::from_secs(1);
/// Listings of one kind before one that was interrupted by changes is taken as it is.
const DUMP_ATTEMPTS: u32 = 5;
/// What the kernel tells us about.
const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Neigh,
];

/// RTM_DELNEXTHOP of linux/rtnetlink.h, which the message crate does not know.
const DEL_NEXTHOP: u16 = 105;

type Notifications = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// What the mirror has to know of a port and its twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirroredPort {
    /// The twin's interface index.
    pub index: u32,
    /// The port's MAC address.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// The largest TCP segments that connections through it may agree on.
    pub mss_clamp: Option<MssClamp>,
    /// Addresses in the order of the configuration: the first of a family is its primary.
    pub configured: Vec<IpAddr>,
}

/// The kernel's state as of the last notification.
pub struct Mirror {
    ports: Vec<MirroredPort>,
    // Listings have a socket of their own: the answer to one could not be told from a notification with the same
    // sequence number.
    listings: Handle,
    notifications: Notifications,
    /// News of next-hop objects (`ip nexthop`).
    nexthops: TokioSocket,
    observed: Observed,
}

impl std::fmt::Debug for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mirror").field("observed", &self.observed).finish_non_exhaustive()
    }
}

impl Mirror {
    /// Subscribes and lists everything. `ports` are in order of their ids.
    ///
    /// # Errors
    /// [`KernelError::Socket`], [`KernelError::Dump`].
    pub async fn open(ports: Vec<MirroredPort>) -> Result<Self, KernelError> {
        let (connection, _, notifications) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(KernelError::Socket)?;
        tokio::spawn(connection);
        let nexthops = subscribe_nexthops().map_err(KernelError::Socket)?;
        let listings = connect()?;
        let observed = list(&listings, &ports).await?;
        Ok(Self { ports, listings, notifications, nexthops, observed })
    }

    /// The table as it is now.
    #[must_use]
    pub fn spec(&self) -> FibSpec {
        self.observed.spec()
    }

    /// Publishes changes as long as somebody receives them. Starts again after errors; meanwhile the last table stays.
    pub async fn run(mut self, specs: watch::Sender<Arc<FibSpec>>) {
        loop {
            self.publish(&specs);
            tokio::select! {
                () = specs.closed() => return,
                error = self.follow(&specs) => warn!(%error, "kernel mirror starts again"),
            }
            self = loop {
                sleep(RETRY).await;
                match Self::open(self.ports.clone()).await {
                    Ok(mirror) => break mirror,
                    Err(error) => warn!(%error, "kernel mirror cannot start"),
                }
            };
        }
    }

    async fn follow(&mut self, specs: &watch::Sender<Arc<FibSpec>>) -> KernelError {
        let mut resync = interval_at(Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // A burst given up half-way leaves changes unpublished, but what interrupts it leads to a listing.
            let effect = tokio::select! {
                effect = burst(&mut self.notifications, &mut self.observed) => effect,
                () = nexthop_deleted(&mut self.nexthops) => Ok(Effect::Doubtful),
                _ = resync.tick() => Ok(Effect::Doubtful),
            };
            let started = Instant::now();
            match effect {
                Ok(Effect::Unchanged) => continue,
                Ok(Effect::Changed) => {}
                Ok(Effect::Doubtful) => match list(&self.listings, &self.ports).await {
                    Ok(observed) => self.observed = observed,
                    Err(error) => return error,
                },
                Err(error) => return error,
            }
            self.publish(specs);
            // With a table so large that this takes long, half of the time is left to everything else.
            sleep(started.elapsed()).await;
        }
    }

    fn publish(&self, specs: &watch::Sender<Arc<FibSpec>>) {
        let spec = self.observed.spec();
        specs.send_if_modified(|current| {
            let differs = **current != spec;
            if differs {
                *current = Arc::new(spec);
            }
            differs
        });
    }
}

/// Waits for a notification and applies it together with those that follow closely.
///
/// Notifications older than the last listing are applied too. That is harmless: of each entry the newest notification
/// is applied last, and it agrees with any listing made after it.
async fn burst(
    notifications: &mut Notifications,
    observed: &mut Observed,
) -> Result<Effect, KernelError> {
    let (first, _) = notifications.next().await.ok_or(KernelError::Ended)?;
    let deadline = Instant::now() + DEBOUNCE;
    let mut effect = apply(observed, first);
    while Instant::now() < deadline {
        match timeout_at(deadline, notifications.next()).await {
            Ok(Some((next, _))) => effect = effect.max(apply(observed, next)),
            Ok(None) => return Err(KernelError::Ended),
            Err(_elapsed) => break,
        }
    }
    Ok(effect)
}

fn apply(observed: &mut Observed, message: NetlinkMessage<RouteNetlinkMessage>) -> Effect {
    match message.payload {
        NetlinkPayload::InnerMessage(inner) => observed.apply(message.header.flags, &inner),
        NetlinkPayload::Overrun(_) => {
            debug!("notifications were lost; listing again");
            Effect::Doubtful
        }
        NetlinkPayload::Error(_) => Effect::Doubtful,
        _ => Effect::Unchanged,
    }
}

fn subscribe_nexthops() -> std::io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(MulticastGroup::Nexthop as u32)?;
    Ok(socket)
}

/// Waits until a next-hop object is deleted: the kernel takes IPv4 routes along without telling. Other changes of
/// objects are followed by notifications of their routes.
async fn nexthop_deleted(socket: &mut TokioSocket) {
    loop {
        let kind = match socket.recv_from_full().await {
            Ok((message, _)) => {
                message.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]]))
            }
            // Some were lost.
            Err(_) => return,
        };
        if kind == Some(DEL_NEXTHOP) {
            return;
        }
    }
}

/// Everything the kernel has, or an error: never a part.
async fn list(netlink: &Handle, ports: &[MirroredPort]) -> Result<Observed, KernelError> {
    let routes = |family| {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        RouteNetlinkMessage::GetRoute(message)
    };
    let mut observed = Observed::new(ports.to_vec());
    for (what, request) in [
        ("links", RouteNetlinkMessage::GetLink(LinkMessage::default())),
        ("addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default())),
        ("IPv4 routes", routes(AddressFamily::Inet)),
        ("IPv6 routes", routes(AddressFamily::Inet6)),
        ("neighbours", RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default())),
    ] {
        let failed = |error| KernelError::Dump { what, source: io_error(error) };
        for entry in dump(netlink, request).await.map_err(failed)? {
            observed.list(&entry);
        }
    }
    Ok(observed)
}

/// One listing. It is repeated when the kernel says that changes interrupted it, which may have hidden entries.
async fn dump(
    netlink: &Handle,
    request: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, rtnetlink::Error> {
    let mut attempt = 1;
    loop {
        let mut message = NetlinkMessage::from(request.clone());
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut answers = netlink.clone().request(message)?;
        let (mut entries, mut interrupted) = (Vec::new(), false);
        while let Some(answer) = answers.next().await {
            interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::InnerMessage(inner) => entries.push(inner),
                NetlinkPayload::Error(error) => return Err(rtnetlink::Error::NetlinkError(error)),
                NetlinkPayload::Overrun(_) => interrupted = true,
                _ => {}
            }
        }
        if !interrupted || attempt == DUMP_ATTEMPTS {
            return Ok(entries);
        }
        attempt += 1;
    }
}
