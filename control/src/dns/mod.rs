//! DNS for Services: answers over UDP and TCP, on the control thread, from the objects as they are.
//!
//! A question becomes a question to the control loop ([`records`] says what the answer is), so what a client hears is
//! never older than the tables. Names that are not the cluster's go to other servers ([`forward`]).
//!
//! Invariants:
//! - Clients can't starve the control loop or each other: questions, forwarded ones, TCP connections and the time of each
//!   are bounded. A UDP question that finds no place is dropped and counted; its client asks again.
//! - Names of the cluster are answered whatever becomes of other servers.
//! - Nothing is answered before the objects have been listed once: a client would take "no such name" for the truth.
//!
//! The wire format and the resolver are hickory's. The sockets are served here: hickory's own server has no bound on
//! connections and logs every question.

mod answer;
mod counters;
mod forward;
mod records;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use counters::Counters;

use crate::config;
use crate::control::Handle;
use answer::{Server, Transport};

/// Questions at a time.
const QUESTIONS: usize = 256;
/// TCP connections at a time, of one address; more wait for one to end.
const CONNECTIONS: usize = 64;
/// How long a TCP client may take for a question, or to accept an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a TCP connection lives: a client can't keep its place by being slow.
const LIFETIME: Duration = Duration::from_secs(60);
/// The largest question over UDP; longer ones are cut, and refused as what they then are.
const DATAGRAM: usize = 4096;

/// Why nobody could ask.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on DNS address {address} ({protocol}): {error}; `dns.addresses` must be free addresses of this machine, and ports below 1024 need CAP_NET_BIND_SERVICE"
)]
pub struct DnsError {
    address: SocketAddr,
    protocol: &'static str,
    error: io::Error,
}

/// Bound sockets.
#[derive(Debug)]
pub struct Dns {
    config: config::Dns,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

impl Dns {
    /// Listens on every address. Errors when one is not this machine's, or taken.
    pub async fn bind(config: &config::Dns) -> Result<Self, DnsError> {
        let mut sockets = Vec::new();
        for &address in &config.addresses {
            let failed = |protocol| move |error| DnsError { address, protocol, error };
            let tcp = TcpListener::bind(address).await.map_err(failed("TCP"))?;
            // Where the port was left open, both have the same.
            let address = tcp.local_addr().map_err(failed("TCP"))?;
            let udp = UdpSocket::bind(address).await.map_err(failed("UDP"))?;
            sockets.push((udp, tcp));
        }
        Ok(Self { config: config.clone(), sockets })
    }

    /// The addresses, with ports that were chosen if they were 0.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|(udp, _)| udp.local_addr()).collect()
    }

    /// Answers, for ever; drop the future to stop.
    pub async fn run(self, control: Handle, counters: Arc<Counters>) {
        let server = Arc::new(Server::new(&self.config, control, counters));
        let places = Arc::new(Semaphore::new(QUESTIONS));
        let mut tasks = JoinSet::new();
        for (udp, tcp) in self.sockets {
            tasks.spawn(serve_udp(udp, server.clone(), places.clone()));
            tasks.spawn(serve_tcp(tcp, server.clone(), places.clone()));
        }
        tasks.join_next().await;
    }
}

async fn serve_udp(socket: UdpSocket, server: Arc<Server>, places: Arc<Semaphore>) {
    let socket = Arc::new(socket);
    let mut buffer = [0; DATAGRAM];
    loop {
        let Ok((len, client)) = socket.recv_from(&mut buffer).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            server.counters.drop_one();
            continue;
        };
        let (socket, server) = (socket.clone(), server.clone());
        let question = buffer[..len].to_vec();
        tokio::spawn(async move {
            if let Some(answer) = server.answer(&question, Transport::Udp).await {
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, client).await;
            }
            drop(place);
        });
    }
}

async fn serve_tcp(listener: TcpListener, server: Arc<Server>, places: Arc<Semaphore>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let connection = connections.clone().acquire_owned().await.expect("never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or the client left: others need some time to end.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (server, places) = (server.clone(), places.clone());
        tokio::spawn(async move {
            // A client that misbehaves is cut off; there is nobody to tell.
            let _ = timeout(LIFETIME, converse(stream, &server, &places)).await;
            drop(connection);
        });
    }
}

/// One question after the other (RFC 7766).
async fn converse(mut stream: TcpStream, server: &Server, places: &Semaphore) -> io::Result<()> {
    loop {
        let question = timeout(PATIENCE, async {
            let len = stream.read_u16().await?;
            let mut question = vec![0; len.into()];
            stream.read_exact(&mut question).await?;
            io::Result::Ok(question)
        });
        let question = question.await??;
        let place = places.acquire().await.expect("never closed");
        let Some(answer) = server.answer(&question, Transport::Tcp).await else { return Ok(()) };
        drop(place);
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&len.to_be_bytes(), &answer[..]].concat();
        timeout(PATIENCE, stream.write_all(&framed)).await??;
    }
}
