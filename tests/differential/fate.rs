//! What became of a packet, in a form in which two gateways can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::flows::{Flow, From};
use crate::packet::Sight;

/// What became of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It went on, by this way: toward clients or pods, or into the node.
    Sent {
        by: From,
        to: SocketAddr,
        /// Whose address it has now, unless it is still the client's.
        masqueraded: Option<IpAddr>,
    },
    /// The client was told by ICMP.
    Unreachable { code: u8 },
    /// The client was told by a TCP reset.
    Reset,
    /// Nobody heard of it.
    Silence,
}

/// All that became of the packets of a flow.
pub(crate) type Fates = BTreeSet<Fate>;

impl Fate {
    /// What became of a packet of this client, by all that was seen of it.
    fn of(flow: &Flow, client: usize, sights: &BTreeSet<(From, Sight)>) -> Self {
        let mut sent = sights.iter().filter_map(|(by, sight)| match sight {
            Sight::First { from, to } => {
                let masqueraded = (from.ip() != flow.client(client)).then_some(from.ip());
                Some(Self::Sent { by: *by, to: *to, masqueraded })
            }
            _ => None,
        });
        let told = sights.iter().find_map(|(_, sight)| match sight {
            Sight::Unreachable { code } => Some(Self::Unreachable { code: *code }),
            Sight::Reset => Some(Self::Reset),
            Sight::First { .. } => None,
        });
        // Into the node last, if it was seen on its way there too; then its kernel may have refused it.
        sent.next_back().or(told).unwrap_or(Self::Silence)
    }

    pub(crate) fn left_the_node(&self) -> bool {
        matches!(self, Self::Sent { by: From::Outside | From::Pod, .. })
    }

    pub(crate) fn is_refusal(self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Reset)
    }
}

/// What became of packets of a flow, and the clients that did not stick to one endpoint.
pub(crate) fn fates(
    flow: &Flow,
    packets: &[(usize, BTreeSet<(From, Sight)>)],
) -> (Fates, Vec<IpAddr>) {
    let mut fates = Fates::new();
    let mut by_client: BTreeMap<IpAddr, Fates> = BTreeMap::new();
    for (client, sights) in packets {
        let fate = Fate::of(flow, *client, sights);
        fates.insert(fate);
        by_client.entry(flow.client(*client)).or_default().insert(fate);
    }
    let wander = by_client.into_iter().filter(|(_, fates)| fates.len() > 1 && flow.clients > 1);
    (fates, wander.map(|(client, _)| client).collect())
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent { by, to, masqueraded: None } => write!(f, "{to} ({by:?})"),
            Self::Sent { by, to, masqueraded: Some(from) } => {
                write!(f, "{to} ({by:?}) from {from}")
            }
            Self::Unreachable { code } => write!(f, "unreachable ({code})"),
            Self::Reset => f.write_str("reset"),
            Self::Silence => f.write_str("silence"),
        }
    }
}
