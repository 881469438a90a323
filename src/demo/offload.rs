//! Switching off transmit checksum offload, as `ethtool -K eth0 tx off` would: by ethtool's netlink interface, because
//! a plain Debian has no ethtool.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

// From linux/netlink.h, linux/genetlink.h and linux/ethtool_netlink.h.
const REQUEST_WITH_ACK: u16 = 1 | 4;
const ERROR_MESSAGE: u16 = 2;
const NESTED: u16 = 1 << 15;
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const HEADER_DEVICE: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const HEADERS: usize = 16 + 4;

/// The kernel computes all checksums of what it sends by this device itself, from now on.
pub(super) fn checksums_in_software(device: &str) -> io::Result<()> {
    let answer = ask(CONTROLLER, GET_FAMILY, &attribute(FAMILY_NAME, b"ethtool\0"))?;
    let family = find(&answer[HEADERS..], FAMILY_ID)
        .and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("the kernel has no ethtool netlink interface"))?;
    // A bit that is named without a value is to be off. Segmentation offload goes with it.
    let bit = attribute(BIT_NAME, b"tx-checksum-ip-generic\0");
    let bits = attribute(BITSET_BITS | NESTED, &attribute(BITSET_BIT | NESTED, &bit));
    let device = attribute(HEADER_DEVICE, &[device.as_bytes(), b"\0"].concat());
    let header = attribute(FEATURES_HEADER | NESTED, &device);
    let wanted = attribute(FEATURES_WANTED | NESTED, &bits);
    ask(family, FEATURES_SET, &[header, wanted].concat()).map(drop)
}

/// One request of generic netlink, one answer: a message of the family, or an error (which may be none).
fn ask(family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkGeneric,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(2))?;
    let len = u32::try_from(HEADERS + attributes.len()).map_err(io::Error::other)?;
    let mut message = Vec::new();
    message.extend(len.to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(REQUEST_WITH_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = vec![0; 8192];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(len);
    if len < HEADERS {
        return Err(io::Error::other("the kernel's answer is too short"));
    }
    if u16::from_ne_bytes([answer[4], answer[5]]) == ERROR_MESSAGE {
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if code != 0 {
            return Err(io::Error::from_raw_os_error(-code));
        }
    }
    Ok(answer)
}

/// Length, kind, value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let [a, b, c, d, ..] = *attributes {
        let len = usize::from(u16::from_ne_bytes([a, b]));
        let value = attributes.get(4..len)?;
        if u16::from_ne_bytes([c, d]) & !NESTED == kind {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found() {
        let bytes = [attribute(7, b"abc"), attribute(8 | NESTED, b"defgh")].concat();
        assert_eq!(bytes.len(), 8 + 12);
        assert_eq!(find(&bytes, 7), Some(&b"abc"[..]));
        assert_eq!(find(&bytes, 8), Some(&b"defgh"[..]));
        assert_eq!(find(&bytes, 9), None);
        assert_eq!(find(&[3, 0, 7, 0], 7), None, "a length that can't be");
    }
}
