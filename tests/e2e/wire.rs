//! Frames made by hand: a packet socket, and what goes into it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket};

const UDP: u8 = 17;

/// A packet socket on a device of the current namespace.
pub(crate) struct Wire {
    socket: OwnedFd,
    device: LinkAddr,
    name: &'static str,
}

impl Wire {
    pub(crate) fn open(name: &'static str) -> io::Result<Self> {
        let devices = getifaddrs()?.filter(|device| device.interface_name == name);
        let device = devices.filter_map(|device| device.address?.as_link_addr().copied()).next();
        let device = device.ok_or(io::ErrorKind::NotFound)?;
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { socket, device, name })
    }

    pub(crate) fn send(&self, frame: &[u8]) -> Result<(), Errno> {
        sendto(self.socket.as_raw_fd(), frame, &self.device, MsgFlags::empty()).map(drop)
    }

    /// The MAC address that the kernel has found for a neighbour.
    pub(crate) fn gateway(&self, address: &str) -> [u8; 6] {
        let neighbours = std::fs::read_to_string("/proc/thread-self/net/arp").expect("a table");
        let entry = neighbours.lines().find(|line| {
            line.split_whitespace().next() == Some(address) && line.ends_with(self.name)
        });
        let mac = entry.and_then(|line| line.split_whitespace().nth(3)).expect("it was pinged");
        let mut bytes = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
        [(); 6].map(|()| bytes.next().expect("six bytes"))
    }
}

pub(crate) fn ethernet(mac: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&mac, &[2, 0, 0, 0, 0, 1], &kind.to_be_bytes()[..], payload].concat()
}

/// A UDP datagram in IP fragments, as Ethernet frames; all but the last hold `size` bytes, a multiple of eight.
pub(crate) fn fragments(
    mac: [u8; 6],
    from: SocketAddr,
    to: SocketAddr,
    payload: &[u8],
    size: usize,
) -> Vec<Vec<u8>> {
    let length = u16::try_from(8 + payload.len()).expect("a datagram");
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let mut datagram = [&ports, &length.to_be_bytes()[..], &[0, 0], payload].concat();
    let addresses = [bytes(from.ip()), bytes(to.ip())].concat();
    let pseudo = [&addresses, &[0, UDP][..], &length.to_be_bytes()].concat();
    let sum = checksum(&[pseudo, datagram.clone()].concat());
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let pieces = datagram.chunks(size).enumerate();
    let frames = pieces.map(|(number, piece)| {
        let last = (number + 1) * size >= datagram.len();
        let offset = u16::try_from(number * size).expect("a datagram");
        let (kind, head) = if from.is_ipv4() {
            let length = u16::try_from(20 + piece.len()).expect("a packet").to_be_bytes();
            let place = ((offset / 8) | if last { 0 } else { 0x2000 }).to_be_bytes();
            let mut head =
                vec![0x45, 0, length[0], length[1], 0x77, 1, place[0], place[1], 64, UDP, 0, 0];
            head.extend(&addresses);
            seal(&mut head);
            (0x0800, head)
        } else {
            let length = u16::try_from(8 + piece.len()).expect("a packet").to_be_bytes();
            let place = (offset | u16::from(!last)).to_be_bytes();
            let mut head = vec![0x60, 0, 0, 0, length[0], length[1], 44, 64];
            head.extend(&addresses);
            head.extend([UDP, 0, place[0], place[1], 0, 0, 0x77, 1]);
            (0x86dd, head)
        };
        ethernet(mac, kind, &[&head, piece].concat())
    });
    frames.collect()
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Puts the checksum into an IPv4 header.
pub(crate) fn seal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |&byte| u32::from(byte)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or_default()
}
