//! The backends: tiny HTTP servers and UDP echoes, one set of sockets for each, all in one process.
//!
//! `/` says who answers and whom it sees; `/download` sends bytes slowly enough that the cluster can change meanwhile.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::child::{Answer, answer};
use super::links;
use super::payload::{Payload, SIZE};
use super::plan::{BACKEND_ECHO, BACKEND_HTTP, BACKENDS, Family, GATEWAY_INSIDE};
use super::talk::{Reply, ToBackends};

/// How long a download takes.
const DOWNLOAD: Duration = Duration::from_millis(4000);
/// It goes in so many pieces.
const PIECES: u32 = 200;
/// How long a backend that ends waits for packets on their way to it.
const GRACE: Duration = Duration::from_millis(200);
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// The state of the process.
#[derive(Debug, Default)]
pub(super) struct Backends {
    running: HashMap<String, Running>,
}

/// A backend that serves.
#[derive(Debug)]
struct Running {
    at: Vec<IpAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Backends {
    pub(super) fn handle(&mut self, message: ToBackends) -> Answer {
        match message {
            ToBackends::Connect => {
                let all: Vec<_> = BACKENDS.iter().map(|backend| backend.at).collect();
                links::connect(&all, GATEWAY_INSIDE).map_err(|error| error.to_string())?;
            }
            ToBackends::Start { backend } => {
                let running = Running::start(&backend).map_err(|error| error.to_string())?;
                self.running.insert(backend, running);
            }
            ToBackends::Stop { backend } => {
                if let Some(running) = self.running.remove(&backend) {
                    running.stop();
                }
            }
        }
        answer(())
    }
}

impl Running {
    fn start(name: &str) -> io::Result<Self> {
        let backend = BACKENDS.iter().find(|backend| backend.name == name);
        let backend = backend.ok_or_else(|| io::Error::other("no such backend"))?;
        let at: Vec<IpAddr> = Family::here().into_iter().map(|f| backend.at.of(f)).collect();
        let mut threads = Vec::new();
        for &ip in &at {
            let listener = TcpListener::bind((ip, BACKEND_HTTP))?;
            let socket = UdpSocket::bind((ip, BACKEND_ECHO))?;
            let name = backend.name;
            threads.push(thread::spawn(move || serve_http(name, &listener)));
            threads.push(thread::spawn(move || echo(name, &socket)));
        }
        Ok(Self { at, threads })
    }

    /// Closes the sockets that take new clients, once those who wait are served.
    fn stop(self) {
        // Packets may still be on their way, sent when this was an endpoint.
        thread::sleep(GRACE);
        for ip in self.at {
            // A call from a backend's address ends a server; it stands in the queue behind everybody else.
            let _ = TcpStream::connect((ip, BACKEND_HTTP));
            let _ =
                UdpSocket::bind((ip, 0)).and_then(|socket| socket.send_to(b"", (ip, BACKEND_ECHO)));
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn is_backend(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
    BACKENDS.iter().any(|backend| backend.at.of(family) == ip)
}

fn serve_http(name: &'static str, listener: &TcpListener) {
    while let Ok((stream, client)) = listener.accept() {
        if is_backend(client.ip()) {
            return;
        }
        // A client that goes away early is its own business.
        thread::spawn(move || drop(respond(name, stream, client)));
    }
}

fn respond(name: &str, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            _ if request.len() > 8192 => return Ok(()),
            len => request.extend(&buffer[..len]),
        }
    }
    let head = |len: u64| {
        format!(
            "HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n"
        )
    };
    if request.starts_with(b"GET /download") {
        stream.write_all(head(SIZE).as_bytes())?;
        return download(&mut stream);
    }
    let body = Reply::text(name, client);
    stream.write_all((head(body.len() as u64) + &body).as_bytes())
}

/// Sends the bytes at a steady pace.
fn download(stream: &mut TcpStream) -> io::Result<()> {
    let begin = Instant::now();
    let mut payload = Payload::new();
    let mut left = usize::try_from(SIZE).map_err(io::Error::other)?;
    let mut piece = vec![0; left.div_ceil(PIECES as usize)];
    for number in 1..=PIECES {
        let len = piece.len().min(left);
        left -= len;
        payload.fill(&mut piece[..len]);
        stream.write_all(&piece[..len])?;
        let due = begin + DOWNLOAD * number / PIECES;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn echo(name: &str, socket: &UdpSocket) {
    let mut buffer = [0; 64];
    loop {
        let Ok((_, client)) = socket.recv_from(&mut buffer) else { continue };
        if is_backend(client.ip()) {
            return;
        }
        // An answer that can't be sent is missed by the client, who tells.
        let _ = socket.send_to(Reply::text(name, client).as_bytes(), client);
    }
}
