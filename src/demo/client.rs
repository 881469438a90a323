//! The client: real connections of the kernel's TCP stack, one process outside the cluster.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::child::{Answer, answer};
use super::payload::Sum;
use super::plan::{CLIENT, GATEWAY_OUTSIDE};
use super::talk::{Downloaded, Flowed, Replies, Reply, ToClient, Turn};
use super::{links, ping};

/// How long to wait for an answer; a lost packet is sent again by TCP after a second.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many without an answer, and it is no use to go on.
const MAX_ERRORS: usize = 3;
/// Time between datagrams of a flow.
const FLOW_PACE: Duration = Duration::from_millis(20);
/// How long to wait for the answer to one of them.
const FLOW_PATIENCE: Duration = Duration::from_secs(1);
/// Source ports tried to find one that a given backend answers.
const FLOW_TRIES: usize = 200;

/// The state of the process.
#[derive(Debug, Default)]
pub(super) struct Client {
    download: Option<JoinHandle<Downloaded>>,
    progress: Arc<AtomicU64>,
    flow: Option<JoinHandle<Flowed>>,
    flow_ends: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn handle(&mut self, message: ToClient) -> Answer {
        let text = |error: io::Error| error.to_string();
        match message {
            ToClient::Connect => {
                let ready = links::connect(&[CLIENT], GATEWAY_OUTSIDE);
                answer(ready.map_err(|error| error.to_string())?)
            }
            ToClient::Requests { to, count } => answer(repeat(count, || request(to))),
            ToClient::Datagrams { to, count } => answer(repeat(count, || datagram(to))),
            ToClient::Ping { to } => answer(ping::ping(to, PATIENCE).map_err(text)?.as_micros()),
            ToClient::Download { to } => answer(self.begin_download(to).map_err(text)?),
            ToClient::Progress => answer(self.progress.load(Ordering::Relaxed)),
            ToClient::Downloaded => {
                let download = self.download.take().ok_or("no download")?;
                answer(download.join().map_err(|_| "the download panicked")?)
            }
            ToClient::Flow { to, backend } => answer(self.begin_flow(to, &backend).map_err(text)?),
            ToClient::Flowed => {
                self.flow_ends.store(true, Ordering::Relaxed);
                let flow = self.flow.take().ok_or("no flow")?;
                answer(flow.join().map_err(|_| "the flow panicked")?)
            }
        }
    }

    /// Returns the name of the backend as soon as it has answered.
    fn begin_download(&mut self, to: SocketAddr) -> io::Result<String> {
        let mut stream = connect(to)?;
        write!(stream, "GET /download HTTP/1.1\r\nHost: demo\r\n\r\n")?;
        let mut stream = BufReader::with_capacity(64 << 10, stream);
        let (mut server, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(name) = line.strip_prefix("Server: ") {
                server = name.trim().to_owned();
            }
        }
        let progress = self.progress.clone();
        self.download = Some(thread::spawn(move || download(stream, &progress)));
        Ok(server)
    }

    /// Returns the source port.
    fn begin_flow(&mut self, to: SocketAddr, backend: &str) -> io::Result<u16> {
        for _ in 0..FLOW_TRIES {
            let socket = udp(to)?;
            if exchange(&socket)?.backend != backend {
                continue;
            }
            let port = socket.local_addr()?.port();
            let ends = self.flow_ends.clone();
            self.flow = Some(thread::spawn(move || flow(&socket, &ends)));
            return Ok(port);
        }
        Err(io::Error::other(format!("{backend} answered none of {FLOW_TRIES} ports")))
    }
}

fn repeat(count: usize, mut once: impl FnMut() -> io::Result<Reply>) -> Replies {
    let mut replies = Replies::default();
    for _ in 0..count {
        match once() {
            Ok(reply) => replies.good.push(reply),
            Err(error) => replies.errors.push(error.to_string()),
        }
        if replies.errors.len() == MAX_ERRORS {
            break;
        }
    }
    replies
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn request(to: SocketAddr) -> io::Result<Reply> {
    let mut stream = connect(to)?;
    write!(stream, "GET / HTTP/1.1\r\nHost: demo\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
    body.and_then(Reply::parse).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn datagram(to: SocketAddr) -> io::Result<Reply> {
    let socket = udp(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    exchange(&socket)
}

fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = if to.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(FLOW_PATIENCE))?;
    socket.connect(to)?;
    Ok(socket)
}

fn exchange(socket: &UdpSocket) -> io::Result<Reply> {
    socket.send(b"who is there?")?;
    let mut buffer = [0; 256];
    let len = socket.recv(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..len]);
    Reply::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn download(mut stream: impl Read, progress: &AtomicU64) -> Downloaded {
    let mut buffer = vec![0; 64 << 10];
    let (mut sum, mut bytes, mut longest) = (Sum::new(), 0, Duration::ZERO);
    let error = loop {
        let begin = Instant::now();
        match stream.read(&mut buffer) {
            Ok(0) => break None,
            Ok(len) => {
                sum.add(&buffer[..len]);
                bytes += len as u64;
                progress.store(bytes, Ordering::Relaxed);
                longest = longest.max(begin.elapsed());
            }
            Err(error) => break Some(error.to_string()),
        }
    };
    let longest_pause = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
    Downloaded { bytes, sum: sum.0, longest_pause, error }
}

fn flow(socket: &UdpSocket, ends: &AtomicBool) -> Flowed {
    let mut flowed = Flowed { sent: 0, lost: 0, backends: Vec::new() };
    while !ends.load(Ordering::Relaxed) {
        flowed.sent += 1;
        match exchange(socket) {
            Err(_) => flowed.lost += 1,
            Ok(reply) => match flowed.backends.last_mut() {
                Some(turn) if turn.backend == reply.backend => turn.answers += 1,
                _ => flowed.backends.push(Turn { backend: reply.backend, answers: 1 }),
            },
        }
        thread::sleep(FLOW_PACE);
    }
    flowed
}
