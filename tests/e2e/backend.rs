//! A backend: HTTP, UDP and a line-by-line echo on both its addresses. It tells who it is and whom it sees.
//!
//! - HTTP `GET /`: `NAME CLIENT`; `GET /bytes/N`: N bytes of the [`pattern`]; `POST /`: checks that the body is the
//!   pattern
//! - UDP: `who?` is answered by `NAME CLIENT`, anything else by itself
//! - talk: every line is answered by `NAME LINE`

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::netns::Namespace;
use crate::service::{ECHO, HTTP, TALK};
use crate::site::Place;

/// How often a waiting thread looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);
/// Longest silence of a client.
const PATIENCE: Duration = Duration::from_secs(5);
/// Question to the UDP server.
pub(crate) const WHO: &[u8] = b"who?";

/// A running backend; its sockets are closed when the value goes.
pub(crate) struct Backend {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Backend {
    pub(crate) fn start(namespace: &Namespace, place: &'static Place) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let name = place.name;
        let threads = namespace.run(|| {
            let serve = |address: &str| {
                let at = |port| SocketAddr::new(address.parse().expect("an address"), port);
                let listen = |port| TcpListener::bind(at(port)).expect("the address is here");
                let (http, talk) = (listen(HTTP.target), listen(TALK.target));
                let udp = UdpSocket::bind(at(ECHO.target)).expect("the address is here");
                [
                    spawn(&stop, move |stop| accept(&http, stop, move |s, c| respond(name, s, c))),
                    spawn(&stop, move |stop| accept(&talk, stop, move |s, _| chat(name, s))),
                    spawn(&stop, move |stop| echo(name, &udp, stop)),
                ]
            };
            place.addresses.into_iter().flat_map(serve).collect()
        });
        Self { stop, threads }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Bytes that large transfers repeat. Their number is prime, so that no lost or doubled packet fits.
pub(crate) fn pattern() -> &'static [u8] {
    static PATTERN: OnceLock<Vec<u8>> = OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        };
        std::iter::repeat_with(next).take(65_521).collect()
    })
}

/// Writes so many bytes of the pattern.
pub(crate) fn send_pattern(stream: &mut impl Write, size: u64) -> io::Result<()> {
    let mut left = size;
    while left > 0 {
        let piece = &pattern()[..pattern().len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        stream.write_all(piece)?;
        left -= piece.len() as u64;
    }
    Ok(())
}

/// Reads so many bytes, which must be the pattern. `watch` sees the number so far.
pub(crate) fn expect_pattern(
    stream: &mut impl Read,
    size: u64,
    mut watch: impl FnMut(u64),
) -> io::Result<()> {
    let (mut at, mut buffer) = (0, vec![0; pattern().len()]);
    while at < size {
        let offset = usize::try_from(at % pattern().len() as u64).expect("below the length");
        let expected = &pattern()[offset..];
        let want = expected.len().min(usize::try_from(size - at).unwrap_or(usize::MAX));
        let len = stream.read(&mut buffer[..want])?;
        if len == 0 {
            return Err(io::Error::other(format!("the stream ends at {at} of {size}")));
        }
        if buffer[..len] != expected[..len] {
            return Err(io::Error::other(format!("wrong bytes after {at}")));
        }
        at += len as u64;
        watch(at);
    }
    Ok(())
}

fn spawn(
    stop: &Arc<AtomicBool>,
    serve: impl FnOnce(&AtomicBool) + Send + 'static,
) -> JoinHandle<()> {
    let stop = stop.clone();
    thread::spawn(move || serve(&stop))
}

fn accept(
    listener: &TcpListener,
    stop: &AtomicBool,
    serve: impl Fn(TcpStream, SocketAddr) -> io::Result<()> + Copy + Send + 'static,
) {
    let glance = TimeVal::milliseconds(i64::try_from(GLANCE.as_millis()).expect("small"));
    setsockopt(listener, ReceiveTimeout, &glance).expect("a socket has it");
    while !stop.load(Ordering::SeqCst) {
        if let Ok((stream, client)) = listener.accept() {
            // Clients that go away early are their own business.
            thread::spawn(move || drop(serve(stream, client)));
        }
    }
}

fn respond(name: &str, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
    }
    let number = |text: &str| text.parse::<u64>().map_err(io::Error::other);
    if let Some(rest) = request.strip_prefix("GET /bytes/") {
        let size = number(rest.split(' ').next().unwrap_or_default())?;
        stream.write_all(head(size).as_bytes())?;
        return send_pattern(&mut stream, size);
    }
    let body = if request.starts_with("POST") {
        let length = request.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        match expect_pattern(&mut reader, number(length.unwrap_or_default())?, |_| ()) {
            Ok(()) => "intact\n".to_owned(),
            Err(error) => format!("{error}\n"),
        }
    } else {
        format!("{name} {}\n", client.ip())
    };
    stream.write_all((head(body.len() as u64) + &body).as_bytes())
}

fn head(length: u64) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
}

fn chat(name: &str, stream: TcpStream) -> io::Result<()> {
    // Longer than any test keeps a connection without a word.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        writer.write_all(format!("{name} {}\n", line?).as_bytes())?;
    }
    Ok(())
}

fn echo(name: &str, socket: &UdpSocket, stop: &AtomicBool) {
    socket.set_read_timeout(Some(GLANCE)).expect("not zero");
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::SeqCst) {
        let (length, client) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            // An ICMP error about an earlier answer.
            Err(_) => continue,
        };
        let answer = format!("{name} {}\n", client.ip());
        let question = buffer[..length].starts_with(WHO);
        let answer = if question { answer.as_bytes() } else { &buffer[..length] };
        // An answer that can't be sent is missed by the client, who tells.
        let _ = socket.send_to(answer, client);
    }
}
