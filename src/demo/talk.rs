//! What the demo says to its two peers, the client and the backends: a JSON object in a line each way.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// To the client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToClient {
    /// Configure the network. Answer: nothing.
    Connect,
    /// New TCP connections with a request each. Answer: [`Replies`].
    Requests { to: SocketAddr, count: usize },
    /// Datagrams from a new port each. Answer: [`Replies`].
    Datagrams { to: SocketAddr, count: usize },
    /// An echo request. Answer: microseconds.
    Ping { to: IpAddr },
    /// Begin the download. Answer: the backend's name.
    Download { to: SocketAddr },
    /// Bytes of the download so far. Answer: a number.
    Progress,
    /// Wait for the end of the download. Answer: [`Downloaded`].
    Downloaded,
    /// Begin to send datagrams from one port that this backend answers. Answer: the port.
    Flow { to: SocketAddr, backend: String },
    /// End that. Answer: [`Flowed`].
    Flowed,
}

/// To the backends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToBackends {
    /// Configure the network. Answer: nothing.
    Connect,
    /// Serve. Answer: nothing.
    Start { backend: String },
    /// Accept nothing new any more; connections go on. Answer: nothing.
    Stop { backend: String },
}

/// Answers of backends.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Replies {
    pub(super) good: Vec<Reply>,
    pub(super) errors: Vec<String>,
}

/// One answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    /// Who answered.
    pub(super) backend: String,
    /// Whom it saw.
    pub(super) seen: SocketAddr,
}

/// The end of a download.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Downloaded {
    pub(super) bytes: u64,
    pub(super) sum: u64,
    /// The longest time without a byte, in milliseconds.
    pub(super) longest_pause: u64,
    pub(super) error: Option<String>,
}

/// What became of datagrams from one port.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Flowed {
    pub(super) sent: usize,
    pub(super) lost: usize,
    /// Who answered, in order.
    pub(super) backends: Vec<Turn>,
}

/// Answers of one backend in a row.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) backend: String,
    pub(super) answers: usize,
}

impl Reply {
    /// What a backend says, by TCP and UDP.
    pub(super) fn text(backend: &str, client: SocketAddr) -> String {
        format!("{backend} answers {client}\n")
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let backend = words.next()?.to_owned();
        let seen = words.nth(1)?.parse().ok()?;
        Some(Self { backend, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_can_be_read_again() {
        for client in ["192.0.2.10:4000", "[2001:db8::1]:4000"] {
            let client = client.parse().expect("an address");
            let reply = Reply::parse(&Reply::text("red", client)).expect("readable");
            assert_eq!((reply.backend.as_str(), reply.seen), ("red", client));
        }
        assert!(Reply::parse("404 not found").is_none());
    }
}
