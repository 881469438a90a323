//! Which receive queue a NIC puts a packet into (receive-side scaling): the Toeplitz hash of its addresses and ports picks
//! an entry of an indirection table. What a NIC does is what its driver tells; the engine uses it so that packets come to
//! the worker that owns them, and works without it.
//!
//! The hash is linear, and its fields' parts add up (by exclusive or): the part of a port is found without those of the
//! addresses. Of an end alone, the part does not depend on where it stands if the key is one of [`key::of_ends`].

pub mod key;

use std::fmt;

use crate::flow::{Address, Protocol, Tuple};

/// Bytes that are hashed of an IPv6 packet: two addresses, two ports. Of an IPv4 packet, 12.
const FIELDS: usize = 36;
/// Bytes of a key: one 32-bit window a bit of the fields.
const KEY: usize = FIELDS + 4;

/// The ends of a packet that decide its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// Source and destination.
    #[default]
    Both,
    /// The source alone.
    Source,
    /// The destination alone.
    Destination,
}

/// A port's receive-side scaling.
#[derive(Clone)]
pub struct Rss {
    ends: Ends,
    /// By half byte of the fields, from the first: what each value adds to the hash.
    parts: Box<[[u32; 16]; 2 * FIELDS]>,
    /// The indirection table; its size is a power of two.
    queues: Box<[u16]>,
    /// Whether ports are hashed as well, by family and protocol.
    ports: [[bool; Protocol::ALL.len()]; 2],
}

/// The queues of packets that differ in their destination port only.
#[derive(Clone, Copy, Debug)]
pub struct Toward<'a> {
    rss: &'a Rss,
    hash: u32,
    v4: bool,
}

impl Rss {
    /// A NIC with this key and indirection table, that hashes these ends, and ports of packets of these families (whether
    /// IPv4) and protocols. `None` for a key or a table that no NIC has, and for a single end if the key isn't one of
    /// [`key::of_ends`].
    #[must_use]
    pub fn new(
        ends: Ends,
        key: &[u8],
        queues: &[u16],
        ports: impl Fn(bool, Protocol) -> bool,
    ) -> Option<Self> {
        let key: &[u8; KEY] = key.first_chunk()?;
        if !queues.len().is_power_of_two() || ends != Ends::Both && !key::repeats(key) {
            return None;
        }
        let windows = |nibble: usize| std::array::from_fn(|bit| window(key, nibble * 4 + bit));
        let mut parts = Box::new([[0; 16]; 2 * FIELDS]);
        for (nibble, sums) in parts.iter_mut().enumerate() {
            let windows: [u32; 4] = windows(nibble);
            for (value, sum) in sums.iter_mut().enumerate() {
                let set = windows.iter().enumerate().filter(|(bit, _)| value & (8 >> bit) != 0);
                *sum = set.fold(0, |sum, (_, window)| sum ^ window);
            }
        }
        let ports = [true, false].map(|v4| Protocol::ALL.map(|protocol| ports(v4, protocol)));
        Some(Self { ends, parts, queues: queues.into(), ports })
    }

    /// Whether every queue it leads to is one of so many.
    #[must_use]
    pub fn is_within(&self, queues: u16) -> bool {
        self.queues.iter().all(|queue| *queue < queues)
    }

    /// Whether source and destination both decide.
    #[must_use]
    pub fn hashes_flows(&self) -> bool {
        self.ends == Ends::Both
    }

    /// The queue of a packet.
    #[must_use]
    pub fn queue(&self, tuple: &Tuple) -> u16 {
        let Tuple { src, dst, sport, dport, protocol } = *tuple;
        match self.ends {
            Ends::Both => {
                let ports = if self.hashes_ports(tuple) { self.ports(tuple) } else { 0 };
                self.queue_of(self.addresses(tuple) ^ ports)
            }
            Ends::Source => self.queue_of_end(src, sport, protocol),
            Ends::Destination => self.queue_of_end(dst, dport, protocol),
        }
    }

    /// The queue of packets with this end, where one end alone decides.
    #[must_use]
    pub fn queue_of_end(&self, address: Address, port: u16, protocol: Protocol) -> u16 {
        let end = Tuple { src: address, dst: address, sport: port, dport: port, protocol };
        let port = if self.hashes_ports(&end) { self.part(0, &port.to_be_bytes()) } else { 0 };
        self.queue_of(self.address(0, address) ^ port)
    }

    /// For packets like `tuple`, whatever its destination port is; `None` where that port changes nothing.
    #[must_use]
    pub fn toward(&self, tuple: &Tuple) -> Option<Toward<'_>> {
        let hash = match self.ends {
            Ends::Both => self.addresses(tuple) ^ self.ports(&Tuple { dport: 0, ..*tuple }),
            Ends::Source => return None,
            Ends::Destination => self.address(0, tuple.dst),
        };
        let v4 = tuple.src.is_v4();
        self.hashes_ports(tuple).then_some(Toward { rss: self, hash, v4 })
    }

    fn hashes_ports(&self, tuple: &Tuple) -> bool {
        self.ports[usize::from(!tuple.src.is_v4())][tuple.protocol as usize]
    }

    fn queue_of(&self, hash: u32) -> u16 {
        self.queues[hash as usize & (self.queues.len() - 1)]
    }

    fn addresses(&self, tuple: &Tuple) -> u32 {
        let second = if tuple.src.is_v4() { 4 } else { 16 };
        self.address(0, tuple.src) ^ self.address(second, tuple.dst)
    }

    fn address(&self, at: usize, address: Address) -> u32 {
        if address.is_v4() {
            self.part(at, &address.low32().to_be_bytes())
        } else {
            self.part(at, &address.0.to_be_bytes())
        }
    }

    fn ports(&self, tuple: &Tuple) -> u32 {
        let at = ports_at(tuple.src.is_v4());
        self.part(at, &tuple.sport.to_be_bytes()) ^ self.part(at + 2, &tuple.dport.to_be_bytes())
    }

    /// What these bytes of the fields, the first of which is number `at`, add to the hash.
    #[inline]
    fn part(&self, at: usize, bytes: &[u8]) -> u32 {
        let tables = self.parts[2 * at..].chunks_exact(2);
        bytes.iter().zip(tables).fold(0, |sum, (byte, tables)| {
            sum ^ tables[0][usize::from(byte >> 4)] ^ tables[1][usize::from(byte & 0xf)]
        })
    }
}

impl Toward<'_> {
    /// The queue of the packet with this destination port.
    #[must_use]
    #[inline]
    pub fn queue(&self, dport: u16) -> u16 {
        let Self { rss, hash, v4 } = self;
        rss.queue_of(hash ^ rss.part(ports_at(*v4) + 2, &dport.to_be_bytes()))
    }
}

impl fmt::Debug for Rss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who knows the key can send everything to one queue.
        f.debug_struct("Rss").field("queues", &self.queues.len()).finish_non_exhaustive()
    }
}

/// The byte of the fields with which the ports begin.
fn ports_at(v4: bool) -> usize {
    if v4 { 8 } else { 32 }
}

/// The 32 bits of the key from this one on.
fn window(key: &[u8; KEY], bit: usize) -> u32 {
    let bytes: [u8; 8] = std::array::from_fn(|i| key.get(bit / 8 + i).copied().unwrap_or(0));
    let shifted = u64::from_be_bytes(bytes) << (bit % 8);
    crate::hash::high32(shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Address;

    /// Key and results of "Verifying the RSS Hash Calculation", from Microsoft's documentation of NDIS.
    const KEY_OF_NDIS: [u8; KEY] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn rss(ports: bool) -> Rss {
        let queues: Vec<u16> = (0..128).map(|i| i % 4).collect();
        Rss::new(Ends::Both, &KEY_OF_NDIS, &queues, |_, _| ports).expect("a key and a table")
    }

    fn tuple(src: &str, sport: u16, dst: &str, dport: u16) -> Tuple {
        let address = |text: &str| Address::from(text.parse::<std::net::IpAddr>().expect("valid"));
        Tuple { src: address(src), dst: address(dst), sport, dport, protocol: Protocol::Tcp }
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        let rss = rss(true);
        for (tuple, addresses, all) in [
            (tuple("66.9.149.187", 2794, "161.142.100.80", 1766), 0x323e_8fc2, 0x51cc_c178),
            (tuple("199.92.111.2", 14230, "65.69.140.83", 4739), 0xd718_262a, 0xc626_b0ea),
            (tuple("24.19.198.95", 12898, "12.22.207.184", 38024), 0xd2d0_a5de, 0x5c2b_394a),
            (tuple("38.27.205.30", 48228, "209.142.163.6", 2217), 0x8298_9176, 0xafc7_327f),
            (tuple("153.39.163.191", 44251, "202.188.127.2", 1303), 0x5d18_09c5, 0x10e8_28a2),
            (
                tuple("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                tuple("3ffe:501:8::260:97ff:fe40:efab", 14230, "ff02::1", 4739),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                tuple(
                    "3ffe:1900:4545:3:200:f8ff:fe21:67cf",
                    44251,
                    "fe80::200:f8ff:fe21:67cf",
                    38024,
                ),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            assert_eq!(rss.addresses(&tuple), addresses, "{tuple:?}");
            assert_eq!(rss.addresses(&tuple) ^ rss.ports(&tuple), all, "{tuple:?}");
        }
    }

    #[test]
    fn a_destination_port_leads_to_the_queue_of_the_whole_packet() {
        for (src, dst) in [("10.0.1.7", "192.0.2.1"), ("fd00::7", "2001:db8::1")] {
            let reply = tuple(src, 8080, dst, 0);
            let (with, without) = (rss(true), rss(false));
            let toward = with.toward(&reply).expect("ports are hashed");
            assert!(without.toward(&reply).is_none());
            let mut seen = [false; 4];
            for dport in (0..=u16::MAX).step_by(77) {
                let packet = Tuple { dport, ..reply };
                assert_eq!(toward.queue(dport), with.queue(&packet));
                assert_eq!(without.queue(&packet), without.queue(&reply));
                seen[usize::from(toward.queue(dport))] = true;
            }
            assert_eq!(seen, [true; 4]);
        }
    }

    /// Whichever fields a NIC hashes instead of the other end's, if any: nothing, zeros in their places.
    #[test]
    fn an_end_has_one_queue_wherever_a_nic_puts_it() {
        let key = key::of_ends(|| 0x6d5a_0000_0000_0000);
        let queues: Vec<u16> = (0..128).collect();
        let rss = |ends| Rss::new(ends, &key, &queues, |_, _| true).expect("a key and a table");
        let (source, destination) = (rss(Ends::Source), rss(Ends::Destination));
        let mut seen = std::collections::HashSet::new();
        for (client, vip) in [("198.51.100.7", "192.0.2.1"), ("2001:db8::7", "2001:db8::1")] {
            for port in (0..=u16::MAX).step_by(977) {
                let packet = tuple(client, port, vip, 80);
                let end = match packet.src.ip() {
                    std::net::IpAddr::V4(address) => address.octets().to_vec(),
                    std::net::IpAddr::V6(address) => address.octets().to_vec(),
                };
                let (none, port) = (vec![0; end.len()], port.to_be_bytes());
                let queues = [
                    toeplitz(&key, &[&end, &port]),
                    toeplitz(&key, &[&end, &none, &port, &[0, 0]]),
                    toeplitz(&key, &[&none, &end, &[0, 0], &port]),
                    toeplitz(&key, &[&port, &end]),
                ];
                let queue = u32::from(source.queue(&packet));
                assert_eq!(queues.map(|hash| hash % 128), [queue; 4]);
                assert_eq!(destination.queue(&packet.reversed()), source.queue(&packet));
                let toward = destination.toward(&packet.reversed()).expect("ports are hashed");
                assert_eq!(toward.queue(packet.sport), source.queue(&packet));
                seen.insert(queue);
            }
            assert!(source.toward(&tuple(client, 1, vip, 80)).is_none());
        }
        assert!(seen.len() > 60, "{}", seen.len());
    }

    /// The hash as the specification has it, bit by bit.
    fn toeplitz(key: &key::Key, fields: &[&[u8]]) -> u32 {
        let bytes = fields.concat();
        let set = (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] & 0x80 >> (bit % 8) != 0);
        let key = key.first_chunk().expect("long enough");
        set.fold(0, |hash, bit| hash ^ window(key, bit))
    }

    #[test]
    fn keys_and_tables_of_no_nic_are_refused() {
        let new = |ends, key: &[u8], queues: &[u16]| Rss::new(ends, key, queues, |_, _| true);
        assert!(new(Ends::Both, &KEY_OF_NDIS[1..], &[0, 1]).is_none());
        assert!(new(Ends::Both, &KEY_OF_NDIS, &[]).is_none());
        assert!(new(Ends::Both, &KEY_OF_NDIS, &[0, 1, 2]).is_none());
        assert!(new(Ends::Source, &KEY_OF_NDIS, &[0, 1]).is_none(), "where is the source?");
    }

    #[test]
    fn queues_of_nobody_are_noticed() {
        assert!(rss(true).is_within(4));
        assert!(!rss(true).is_within(3));
    }
}
