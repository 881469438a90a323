//! What clients do. Everything here runs inside the client's namespace, and everything has a time limit.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::backend::{WHO, expect_pattern, send_pattern};
use crate::netns::{Namespace, text};
use crate::service::{HTTP, Vip};
use crate::site::CLIENT;

/// Longest wait for a packet; a transfer that is silent for longer has stalled.
pub(crate) const STALL: Duration = Duration::from_secs(3);

/// Who answered, and whom it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) backend: String,
    pub(crate) client: String,
}

impl Reply {
    fn parse(text: &str) -> Option<Self> {
        let (backend, client) = text.trim().split_once(' ')?;
        Some(Self { backend: backend.to_owned(), client: client.to_owned() })
    }
}

/// curl from one of the client's addresses.
pub(crate) fn curl(client: &Namespace, source: &str, to: SocketAddr) -> Result<Reply, String> {
    let line = format!("curl -gsS --connect-timeout 3 -m 5 --interface {source} http://{to}/");
    let output = client.output(6, &line);
    let body = text(&output.stdout);
    Reply::parse(&body).ok_or_else(|| format!("{to}: {body} {}", text(&output.stderr)))
}

/// The client's own address of the family of `to`.
pub(crate) fn source_for(to: IpAddr) -> &'static str {
    CLIENT[usize::from(to.is_ipv6())]
}

/// A UDP socket; port 0 is any.
pub(crate) fn udp(source: &str, port: u16) -> UdpSocket {
    let source: IpAddr = source.parse().expect("an address");
    let socket = UdpSocket::bind((source, port)).expect("the address is here");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("not zero");
    socket
}

/// Asks a backend for its name by UDP.
pub(crate) fn who(socket: &UdpSocket, to: SocketAddr) -> io::Result<Reply> {
    socket.send_to(WHO, to)?;
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer)?;
    if from != to {
        return Err(io::Error::other(format!("{to} was asked, {from} answered")));
    }
    let reply = Reply::parse(&text(&buffer[..length]));
    reply.ok_or_else(no_reply)
}

/// Gets so many bytes over HTTP and compares them. `watch` sees the number so far.
pub(crate) fn download(to: SocketAddr, size: u64, watch: impl FnMut(u64)) -> io::Result<()> {
    let mut stream = connect(to)?;
    write!(stream, "GET /bytes/{size} HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    read_head(&mut stream)?;
    expect_pattern(&mut stream, size, watch)
}

/// Posts so many bytes over HTTP; the backend compares them.
pub(crate) fn upload(to: SocketAddr, size: u64) -> io::Result<()> {
    let mut stream = connect(to)?;
    write!(stream, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n")?;
    send_pattern(&mut stream, size)?;
    let mut stream = BufReader::new(stream);
    read_head(&mut stream)?;
    let mut verdict = String::new();
    stream.read_line(&mut verdict)?;
    if verdict == "intact\n" { Ok(()) } else { Err(io::Error::other(verdict)) }
}

/// One new connection and request; the backend's name.
pub(crate) fn request(vip: &Vip) -> io::Result<String> {
    let mut stream = connect(vip.at(&HTTP))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut stream = BufReader::new(stream);
    read_head(&mut stream)?;
    let mut body = String::new();
    stream.read_line(&mut body)?;
    Reply::parse(&body).map(|reply| reply.backend).ok_or_else(no_reply)
}

pub(crate) fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, STALL)?;
    stream.set_read_timeout(Some(STALL))?;
    stream.set_write_timeout(Some(STALL))?;
    Ok(stream)
}

fn no_reply() -> io::Error {
    io::Error::other("the answer tells no backend")
}

fn read_head(stream: &mut impl BufRead) -> io::Result<()> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            break;
        }
    }
    if head.starts_with("HTTP/1.1 200 ") { Ok(()) } else { Err(io::Error::other(head)) }
}
