//! Packet sockets: frames as they are, past the IP stack.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{ReceiveTimeout, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::namespace::Namespace;
use super::site::FAR_END;

/// Frames in flight hold this memory until somebody has taken them.
const SEND_BUFFER: usize = 4 << 20;
/// How long [`Socket::receive`] waits.
const PATIENCE_MS: i64 = 20;

/// A socket on the far end of a cable.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// One that sends only: a socket that could receive would get a copy of every packet.
    pub(super) fn sender(namespace: &Namespace) -> io::Result<Self> {
        let socket = namespace.run(|| Self::open(None))?;
        setsockopt(&socket.0, SndBufForce, &SEND_BUFFER)?;
        Ok(socket)
    }

    /// One that sends, and receives everything, before anybody drops it.
    pub(super) fn both(namespace: &Namespace) -> io::Result<Self> {
        let socket = namespace.run(|| Self::open(Some(SockProtocol::EthAll)))?;
        setsockopt(&socket.0, ReceiveTimeout, &TimeVal::milliseconds(PATIENCE_MS))?;
        Ok(socket)
    }

    /// False when there is no room at the moment.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match send(self.0.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => Ok(true),
            Err(Errno::ENOBUFS | Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next frame; `None` when none came for a moment.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(len) => Ok(Some(&buffer[..len])),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(receives: Option<SockProtocol>) -> io::Result<Self> {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, receives)?;
        let device = getifaddrs()?
            .filter(|device| device.interface_name == FAR_END)
            .find_map(|device| device.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::other("the device has no link-layer address"))?;
        bind(socket.as_raw_fd(), &device)?;
        Ok(Self(socket))
    }
}
