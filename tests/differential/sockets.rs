//! Packets as they are, at the far ends of the node's cables, and in the node.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recvfrom,
    send, sendto, setsockopt, socket,
};

use crate::netns::Namespace;
use crate::packet::{Sight, frame, read_frame, read_ip, read_transport};

/// For what comes while packets are still being sent.
const BUFFER: usize = 4 << 20;
/// What the node's routers are called on the cable: nobody's address, so that no kernel there answers.
pub(crate) const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

fn open(family: AddressFamily, protocol: SockProtocol) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Raw, flags, protocol).expect("root may");
    setsockopt(&socket, RcvBufForce, &BUFFER).expect("root may");
    socket
}

/// The next datagram, if there is one.
fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> Option<(&'a [u8], Option<SocketAddr>)> {
    match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), buffer) {
        Ok((length, from)) => {
            let from = from.as_ref().and_then(SockaddrStorage::as_sockaddr_in6);
            Some((&buffer[..length], from.map(|from| SocketAddr::new(from.ip().into(), 0))))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => None,
        Err(error) => panic!("a packet socket: {error}"),
    }
}

fn nonblocking(socket: OwnedFd) -> OwnedFd {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("it is a socket");
    socket
}

/// Sends again while there is no room.
fn patiently(mut send: impl FnMut() -> nix::Result<usize>) {
    for _ in 0..10_000 {
        match send() {
            // Not permitted: the node's own rules dropped or refused it.
            Ok(_) | Err(Errno::EPERM) => return,
            Err(Errno::ENOBUFS | Errno::EAGAIN) => thread::sleep(Duration::from_micros(100)),
            Err(error) => panic!("sending: {}", io::Error::from(error)),
        }
    }
    panic!("sending: {}", io::Error::from(ErrorKind::TimedOut));
}

/// The far end of a cable.
pub(crate) struct Wire {
    socket: OwnedFd,
    node: [u8; 6],
}

impl Wire {
    /// On a device of a namespace; `node` is the address of the node's end.
    pub(crate) fn new(namespace: &Namespace, device: &str, node: [u8; 6]) -> Self {
        let open = || {
            let socket = open(AddressFamily::Packet, SockProtocol::EthAll);
            let mut devices =
                getifaddrs().expect("the kernel tells").filter(|d| d.interface_name == device);
            let address = devices.find_map(|d| d.address?.as_link_addr().copied());
            bind(socket.as_raw_fd(), &address.expect("the device has an address"))
                .expect("it is there");
            nonblocking(socket)
        };
        Self { socket: namespace.run(open), node }
    }

    pub(crate) fn send(&self, ip: &[u8]) {
        let frame = frame(self.node, ROUTER, ip);
        patiently(|| send(self.socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT));
    }

    /// The next packet of ours that came out of the node.
    pub(crate) fn next(&self) -> Option<(u16, Sight)> {
        let mut buffer = [0; 2048];
        loop {
            let (bytes, _) = receive(&self.socket, &mut buffer)?;
            if let Some(seen) = read_frame(bytes) {
                return Some(seen);
            }
        }
    }
}

/// The node's own kernel: sends by it, and sees what it takes for its own.
pub(crate) struct Inner {
    senders: [OwnedFd; 2],
    /// IPv4 with headers, IPv6 without.
    v4: [OwnedFd; 3],
    v6: [(OwnedFd, u8); 3],
}

impl Inner {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        use AddressFamily::{Inet, Inet6};
        use SockProtocol::{Icmp, IcmpV6, Raw, Tcp, Udp};
        namespace.run(|| Self {
            senders: [open(Inet, Raw), open(Inet6, Raw)].map(nonblocking),
            v4: [Tcp, Udp, Icmp].map(|protocol| nonblocking(open(Inet, protocol))),
            v6: [(Tcp, 6), (Udp, 17), (IcmpV6, 58)]
                .map(|(protocol, number)| (nonblocking(open(Inet6, protocol)), number)),
        })
    }

    pub(crate) fn send(&self, ip: &[u8], to: IpAddr) {
        let to = SocketAddr::new(to, 0);
        let sender = &self.senders[usize::from(to.is_ipv6())];
        let to = SockaddrStorage::from(to);
        patiently(|| sendto(sender.as_raw_fd(), ip, &to, MsgFlags::MSG_DONTWAIT));
    }

    pub(crate) fn next(&self) -> Option<(u16, Sight)> {
        let mut buffer = [0; 2048];
        for socket in &self.v4 {
            while let Some((bytes, _)) = receive(socket, &mut buffer) {
                if let Some(seen) = read_ip(bytes) {
                    return Some(seen);
                }
            }
        }
        for (socket, protocol) in &self.v6 {
            while let Some((bytes, from)) = receive(socket, &mut buffer) {
                let from = from.expect("IPv6 tells").ip();
                let to = Ipv6Addr::UNSPECIFIED.into();
                if let Some(seen) = read_transport(*protocol, from, to, bytes) {
                    return Some(seen);
                }
            }
        }
        None
    }
}
