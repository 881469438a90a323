//! The frames of the benchmark: 64 bytes with FCS, IPv4 and UDP, made by arithmetic.
//!
//! A flow is a number; its client's address and port follow from it, so that a million flows need no table. A frame is
//! a copy of a template with eight numbers written into it, and its checksums are sums of these numbers: a few
//! nanoseconds a frame. The payload says which flow it is, which place the frame has among all of its link, and when it
//! was sent.

use std::net::Ipv4Addr;

use dataplane::fib::Mac;

/// Length of every frame, without FCS.
pub(super) const LEN: usize = 60;
/// The gateway, as `gateway.rs` configures it.
pub(super) const GATEWAY_MAC: Mac = [2, 0, 0, 0, 1, 1];
/// Our router: the gateway's next hop to the clients.
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The Service's address and port.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(super) const VIP_PORT: u16 = 5300;
/// The backends' addresses follow one another.
pub(super) const FIRST_BACKEND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);
pub(super) const BACKENDS: u8 = 16;
pub(super) const BACKEND_PORT: u16 = 8080;
/// How many flows there can be.
pub(super) const MOST_FLOWS: u32 = (u16::MAX as u32 - FIRST_PORT as u32) << CLIENT_BITS;

/// Clients are 198.18.0.0 and the next so many (in bits).
const CLIENT_BITS: u32 = 12;
const FIRST_CLIENT: u32 = u32::from_be_bytes([198, 18, 0, 1]);
const FIRST_PORT: u16 = 1024;
const HOP_LIMIT: u8 = 64;
const UDP: u8 = 17;
/// Where things are in a frame.
const IP: usize = 14;
const IP_CHECKSUM: usize = 24;
const ADDRESSES: usize = 26;
const PORTS: usize = 34;
const UDP_CHECKSUM: usize = 40;
const MARK: usize = 42;
const FLOW: usize = 44;
const SEQUENCE: usize = 48;
const SENT: usize = 52;
/// Tells our frames from others.
const OURS: u16 = 0xb5a6;

/// Who sends to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: u32,
    pub(super) destination: u32,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

impl Ends {
    /// A client's packet to the VIP.
    pub(super) fn forward(flow: u32) -> Self {
        let (source, source_port) = client(flow);
        Self { source, destination: VIP.to_bits(), source_port, destination_port: VIP_PORT }
    }

    /// The same behind the gateway.
    pub(super) fn forwarded(flow: u32, backend: u8) -> Self {
        let destination = FIRST_BACKEND.to_bits() + u32::from(backend);
        Self { destination, destination_port: BACKEND_PORT, ..Self::forward(flow) }
    }

    pub(super) fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    /// The number of the backend that this goes to.
    pub(super) fn to_backend(self) -> Option<u8> {
        let number = self.destination.wrapping_sub(FIRST_BACKEND.to_bits());
        let number = u8::try_from(number).ok().filter(|&number| number < BACKENDS)?;
        (self.destination_port == BACKEND_PORT).then_some(number)
    }
}

/// The backend of a flow when nobody chooses one.
pub(super) fn backend_in_turn(flow: u32) -> u8 {
    u8::try_from(flow % u32::from(BACKENDS)).unwrap_or_default()
}

fn client(flow: u32) -> (u32, u16) {
    let address = FIRST_CLIENT + (flow & ((1 << CLIENT_BITS) - 1));
    (address, FIRST_PORT + low(u64::from(flow >> CLIENT_BITS)))
}

/// A frame before its numbers are written, and the sums of all but these.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: [u8; LEN],
    ip: u64,
    udp: u64,
}

impl Template {
    /// Frames from the generator's port, which has this address, to the gateway's.
    pub(super) fn new(mac: Mac) -> Self {
        let mut bytes = [0; LEN];
        bytes[..6].copy_from_slice(&GATEWAY_MAC);
        bytes[6..12].copy_from_slice(&mac);
        put(&mut bytes, 12, 0x0800_u16.to_be_bytes());
        let (ip_len, udp_len) = (low((LEN - IP) as u64), low((LEN - PORTS) as u64));
        put(&mut bytes, IP, [0x45, 0]);
        put(&mut bytes, IP + 2, ip_len.to_be_bytes());
        put(&mut bytes, IP + 8, [HOP_LIMIT, UDP]);
        put(&mut bytes, PORTS + 4, udp_len.to_be_bytes());
        put(&mut bytes, MARK, OURS.to_be_bytes());
        let ip = sum(&bytes[IP..PORTS]);
        let udp = sum(&bytes[PORTS..]) + u64::from(UDP) + u64::from(udp_len);
        Self { bytes, ip, udp }
    }

    /// Makes a frame; `frame` has [`LEN`] bytes.
    #[inline]
    pub(super) fn write(&self, frame: &mut [u8], ends: Ends, flow: u32, sequence: u32, sent: u64) {
        let Some(frame) = frame.first_chunk_mut::<LEN>() else { return };
        *frame = self.bytes;
        let Ends { source, destination, source_port, destination_port } = ends;
        let addresses = u64::from(source) + u64::from(destination);
        let rest = u64::from(source_port)
            + u64::from(destination_port)
            + u64::from(flow)
            + u64::from(sequence)
            + (sent >> 32)
            + (sent & 0xffff_ffff);
        put(frame, IP_CHECKSUM, (!fold(self.ip + addresses)).to_be_bytes());
        put(frame, ADDRESSES, source.to_be_bytes());
        put(frame, ADDRESSES + 4, destination.to_be_bytes());
        put(frame, PORTS, source_port.to_be_bytes());
        put(frame, PORTS + 2, destination_port.to_be_bytes());
        // Zero would say that there is no checksum.
        let udp = match !fold(self.udp + addresses + rest) {
            0 => 0xffff,
            checksum => checksum,
        };
        put(frame, UDP_CHECKSUM, udp.to_be_bytes());
        put(frame, FLOW, flow.to_be_bytes());
        put(frame, SEQUENCE, sequence.to_be_bytes());
        put(frame, SENT, sent.to_be_bytes());
    }
}

/// What the payload of one of our frames says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) flow: u32,
    pub(super) sequence: u32,
    pub(super) sent: u64,
}

impl Tag {
    /// `None` when the frame is none of ours.
    #[inline]
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let frame = frame.first_chunk::<LEN>()?;
        (get(frame, MARK) == OURS.to_be_bytes()).then(|| Self {
            flow: u32::from_be_bytes(get(frame, FLOW)),
            sequence: u32::from_be_bytes(get(frame, SEQUENCE)),
            sent: u64::from_be_bytes(get(frame, SENT)),
        })
    }
}

/// Who sends to whom in one of our frames; `None` when a checksum is wrong.
pub(super) fn verify(frame: &[u8]) -> Option<Ends> {
    let frame = frame.first_chunk::<LEN>()?;
    let pseudo = sum(&frame[ADDRESSES..PORTS]) + u64::from(UDP) + (LEN - PORTS) as u64;
    let right = fold(sum(&frame[IP..PORTS])) == 0xffff
        && fold(pseudo + sum(&frame[PORTS..])) == 0xffff
        && get(frame, UDP_CHECKSUM) != [0, 0];
    right.then(|| Ends {
        source: u32::from_be_bytes(get(frame, ADDRESSES)),
        destination: u32::from_be_bytes(get(frame, ADDRESSES + 4)),
        source_port: u16::from_be_bytes(get(frame, PORTS)),
        destination_port: u16::from_be_bytes(get(frame, PORTS + 2)),
    })
}

/// Turns a received frame into its answer: swapped ends keep the checksums right.
pub(super) fn turn(frame: &mut [u8], mac: Mac) {
    let Some(frame) = frame.first_chunk_mut::<LEN>() else { return };
    frame[..6].copy_from_slice(&GATEWAY_MAC);
    frame[6..12].copy_from_slice(&mac);
    let (left, right) = frame.split_at_mut(ADDRESSES + 4);
    left[ADDRESSES..].swap_with_slice(&mut right[..4]);
    frame.swap(PORTS, PORTS + 2);
    frame.swap(PORTS + 1, PORTS + 3);
}

fn put<const N: usize>(frame: &mut [u8; LEN], at: usize, bytes: [u8; N]) {
    frame[at..at + N].copy_from_slice(&bytes);
}

fn get<const N: usize>(frame: &[u8; LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| frame[at + i])
}

fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum()
}

/// The sum in one's complement: 2^16 is 1 there, so that larger numbers may be summed as they are.
fn fold(mut sum: u64) -> u16 {
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    low((sum & 0xffff) + (sum >> 16))
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low(number: u64) -> u16 {
    number as u16
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dataplane::flow::{Protocol, Tuple};
    use dataplane::wire::{self, Parsed};

    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    fn written(ends: Ends, flow: u32, sequence: u32, sent: u64) -> [u8; LEN] {
        let mut frame = [0xee; LEN];
        Template::new(MAC).write(&mut frame, ends, flow, sequence, sent);
        frame
    }

    #[test]
    fn the_engine_reads_what_is_written() {
        for flow in [0, 1, 4095, 4096, 1_000_000, MOST_FLOWS - 1] {
            let frame = written(Ends::forward(flow), flow, u32::MAX, u64::MAX - u64::from(flow));
            let Ok(Parsed::Ip(headers)) = wire::parse(&frame) else { panic!("flow {flow}") };
            let (source, sport) = client(flow);
            let address = |bits: u32| IpAddr::V4(Ipv4Addr::from_bits(bits)).into();
            let expected = Tuple {
                src: address(source),
                dst: IpAddr::V4(VIP).into(),
                sport,
                dport: VIP_PORT,
                protocol: Protocol::Udp,
            };
            assert_eq!(headers.tuple(), Some(expected));
            assert_eq!(verify(&frame), Some(Ends::forward(flow)));
            let tag = Tag { flow, sequence: u32::MAX, sent: u64::MAX - u64::from(flow) };
            assert_eq!(Tag::read(&frame), Some(tag));
        }
    }

    #[test]
    fn checksums_are_right_for_every_sum_and_never_absent() {
        for sequence in 0..200_000 {
            let frame = written(Ends::forward(7), 7, sequence, 1 << 40);
            assert_eq!(verify(&frame), Some(Ends::forward(7)), "sequence {sequence}");
        }
        let mut frame = written(Ends::forward(7), 7, 1, 1);
        frame[50] ^= 4;
        assert_eq!(verify(&frame), None);
    }

    #[test]
    fn flows_differ_and_answers_go_back() {
        let flows = 100_000;
        let ends: std::collections::HashSet<_> = (0..flows).map(client).collect();
        assert_eq!(ends.len(), flows as usize);
        let to = Ends::forwarded(5, 3);
        assert_eq!((to.to_backend(), Ends::forward(5).to_backend()), (Some(3), None));
        let mut frame = written(to, 5, 6, 7);
        turn(&mut frame, MAC);
        assert_eq!(verify(&frame), Some(to.reversed()));
        assert_eq!(frame[..12], [GATEWAY_MAC, MAC].concat());
    }
}
