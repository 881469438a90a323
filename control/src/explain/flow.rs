//! A flow as people write it: `tcp 203.0.113.7:40000 -> 172.30.0.41:80`, IPv6 addresses in brackets.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use dataplane::flow::{Protocol, Tuple};
use serde::{Deserialize, Serialize};

use crate::object::address;

/// The first packet of a connection, described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Flow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Who sends it.
    pub client: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

/// Text that is no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a flow: {problem}; write one like 'tcp 203.0.113.7:40000 -> 172.30.0.41:80' or 'udp [2001:db8::7]:5353 -> [2001:db8:1::1]:53'"
)]
pub struct FlowError {
    text: String,
    problem: String,
}

impl Flow {
    /// As the engine sees it.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        let Self { protocol, client, destination } = *self;
        Tuple {
            src: client.ip().into(),
            dst: destination.ip().into(),
            sport: client.port(),
            dport: destination.port(),
            protocol,
        }
    }
}

impl FromStr for Flow {
    type Err = FlowError;

    fn from_str(text: &str) -> Result<Self, FlowError> {
        let error = |problem: String| FlowError { text: text.to_owned(), problem };
        let (head, to) =
            text.split_once("->").ok_or_else(|| error("there is no '->' in it".into()))?;
        let (protocol, from) = head
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| error("a protocol and the client must stand before '->'".into()))?;
        let known = Protocol::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(protocol));
        let protocol =
            known.ok_or_else(|| error(format!("{protocol:?} is not tcp, udp or sctp")))?;
        let (client, destination) =
            (end(from.trim()).map_err(error)?, end(to.trim()).map_err(error)?);
        if client.is_ipv4() != destination.is_ipv4() {
            return Err(error("its ends are of different families".into()));
        }
        Ok(Self { protocol, client, destination })
    }
}

/// `address:port`, an IPv6 address in brackets.
fn end(text: &str) -> Result<SocketAddr, String> {
    let problem = || format!("{text:?} is not an address and port");
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':')),
        None => Some(host).filter(|host| !host.contains(':')),
    };
    let ip = address::parse_ip(host.ok_or_else(problem)?).map_err(|error| error.to_string())?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(problem)?;
    Ok(SocketAddr::new(ip, port))
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol.name(), self.client, self.destination)
    }
}

impl TryFrom<String> for Flow {
    type Error = FlowError;

    fn try_from(text: String) -> Result<Self, FlowError> {
        text.parse()
    }
}

impl From<Flow> for String {
    fn from(flow: Flow) -> Self {
        flow.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_read_and_written() {
        for (text, written) in [
            ("tcp 203.0.113.7:40000 -> 172.30.0.41:80", "tcp 203.0.113.7:40000 -> 172.30.0.41:80"),
            ("  UDP  203.0.113.7:1->172.030.0.041:53 ", "udp 203.0.113.7:1 -> 172.30.0.41:53"),
            ("sctp [2001:DB8::7]:9 -> [fd00::1]:9", "sctp [2001:db8::7]:9 -> [fd00::1]:9"),
        ] {
            let flow: Flow = text.parse().expect(text);
            assert_eq!(flow.to_string(), written);
            assert_eq!(written.parse(), Ok(flow));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, problem) in [
            ("", "there is no '->'"),
            ("tcp 203.0.113.7:40000 172.30.0.41:80", "there is no '->'"),
            ("203.0.113.7:40000 -> 172.30.0.41:80", "a protocol and the client"),
            ("icmp 203.0.113.7:1 -> 172.30.0.41:80", "\"icmp\" is not tcp, udp or sctp"),
            ("tcp 203.0.113.7 -> 172.30.0.41:80", "\"203.0.113.7\" is not an address and port"),
            ("tcp 203.0.113.7:0 -> 172.30.0.41:80", "is not an address and port"),
            ("tcp 203.0.113.7:65536 -> 172.30.0.41:80", "is not an address and port"),
            ("tcp 203.0.113:1 -> 172.30.0.41:80", "is not an IP address"),
            ("tcp fd00::1:1 -> [fd00::2]:80", "is not an address and port"),
            ("tcp 203.0.113.7:1 -> [fd00::2]:80", "different families"),
        ] {
            let error = text.parse::<Flow>().expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
            assert!(error.contains("write one like"), "{error}");
        }
    }
}
