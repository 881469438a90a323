//! One echo request. Raw sockets need no setting of the kernel here: the namespace is ours.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;

const PAYLOAD: &[u8] = b"vipgate demo";

/// The time to the answer.
pub(super) fn ping(to: IpAddr, patience: Duration) -> io::Result<Duration> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // Every packet of the kind is seen here: look again until ours comes.
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 100_000))?;
    let [a, b, ..] = std::process::id().to_be_bytes();
    let mut message = [&[request, 0, 0, 0, a, b, 0, 1], PAYLOAD].concat();
    if to.is_ipv4() {
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
    }
    let begin = Instant::now();
    let address = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &message, &address, MsgFlags::empty())?;
    let mut buffer = [0; 512];
    while begin.elapsed() < patience {
        let Ok(len) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
        // IPv4 comes with its header.
        let header = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let Some(answer) = buffer[..len].get(header..) else { continue };
        if answer.first() == Some(&reply) && answer.get(4..) == Some(&message[4..]) {
            return Ok(begin.elapsed());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// The checksum of the internet protocols.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_an_echo_request() {
        assert_eq!(checksum(&[8, 0, 0, 0, 0, 1, 0, 1]), 0xf7fd);
        assert_eq!(checksum(&[8, 0, 0xf7, 0xfd, 0, 1, 0, 1]), 0);
    }
}
