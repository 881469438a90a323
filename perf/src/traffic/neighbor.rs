//! ARP and neighbour discovery, both ways: answers for the addresses on our side, and the gateway's MAC address.
//!
//! The packet engine builds the answers; what is asked and learned is read here, byte by byte.

use std::collections::HashSet;

use dataplane::answer;
use dataplane::fib::Mac;
use dataplane::flow::Address;
use dataplane::nic::Frame;
use dataplane::wire::{Headers, ICMPV6, Kind, checksum, ethernet, set_word, word};

const BROADCAST: Mac = [0xff; 6];
/// Shortest frame on an Ethernet, without FCS.
const SHORTEST: usize = 60;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Who we are on one link, and whom we look for.
#[derive(Debug)]
pub(super) struct Neighbors {
    mac: Mac,
    own: HashSet<Address>,
    /// Whose name questions carry.
    asker: Address,
    gateway: Address,
    gateway_mac: Option<Mac>,
}

impl Neighbors {
    /// On a link where `mac` has the addresses `own`, of which `asker` is one.
    pub(super) fn new(mac: Mac, own: HashSet<Address>, asker: Address, gateway: Address) -> Self {
        Self { mac, own, asker, gateway, gateway_mac: None }
    }

    pub(super) fn mac(&self) -> Mac {
        self.mac
    }

    pub(super) fn gateway(&self) -> Address {
        self.gateway
    }

    pub(super) fn gateway_mac(&self) -> Option<Mac> {
        self.gateway_mac
    }

    /// Spares the question.
    pub(super) fn set_gateway_mac(&mut self, mac: Mac) {
        self.gateway_mac = Some(mac);
    }

    /// A frame that asks for the gateway's MAC address.
    pub(super) fn question(&self) -> Vec<u8> {
        if self.gateway.is_v4() { self.arp_request() } else { self.solicitation() }
    }

    /// Takes an ARP packet; true when the frame has become an answer to be sent.
    pub(super) fn on_arp(&mut self, frame: &mut [u8], at: usize) -> bool {
        let address = |at: usize| Address::v4(std::array::from_fn(|i| frame[at + i]));
        let (sender, target) = (address(at + 14), address(at + 24));
        match word(frame, at + 6) {
            ethernet::ARP_REQUEST if self.own.contains(&target) => {
                answer::arp(frame, at, self.mac);
                return true;
            }
            ethernet::ARP_REPLY if sender == self.gateway => {
                self.gateway_mac = Some(std::array::from_fn(|i| frame[at + 8 + i]));
            }
            _ => {}
        }
        false
    }

    /// Takes a packet that is none of ours; true when the frame has become an answer to be sent.
    pub(super) fn on_other<F: Frame>(&mut self, frame: &mut F, headers: &Headers) -> bool {
        match headers.kind {
            Kind::NeighborSolicitation { target } if self.own.contains(&target) => {
                answer::neighbor_advertisement(frame, headers, target, self.mac)
            }
            Kind::EchoRequest if self.own.contains(&headers.dst) => {
                answer::echo_reply(frame.bytes_mut(), headers, self.mac);
                true
            }
            Kind::Other if headers.number == ICMPV6 => {
                self.learn(&frame.bytes()[headers.l4..headers.end]);
                false
            }
            _ => false,
        }
    }

    /// From a neighbour advertisement (RFC 4861 section 4.4) of the gateway with its link-layer address.
    fn learn(&mut self, message: &[u8]) {
        let Some(head) = message.first_chunk::<32>() else { return };
        let target = Address::v6(std::array::from_fn(|i| head[8 + i]));
        if head[0] == ADVERTISEMENT && target == self.gateway && head[24..26] == [2, 1] {
            self.gateway_mac = Some(std::array::from_fn(|i| head[26 + i]));
        }
    }

    fn arp_request(&self) -> Vec<u8> {
        let mut frame = vec![0; SHORTEST];
        ethernet::address(&mut frame, BROADCAST, self.mac);
        set_word(&mut frame, 12, ethernet::ARP);
        frame[14..20].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        set_word(&mut frame, 20, ethernet::ARP_REQUEST);
        frame[22..28].copy_from_slice(&self.mac);
        frame[28..32].copy_from_slice(&self.asker.low32().to_be_bytes());
        frame[38..42].copy_from_slice(&self.gateway.low32().to_be_bytes());
        frame
    }

    /// To the solicited-node group of the gateway (RFC 4291 section 2.7.1).
    fn solicitation(&self) -> Vec<u8> {
        const L4: usize = 14 + 40;
        const LEN: usize = 32;
        let low = self.gateway.low32() & 0x00ff_ffff;
        let group = Address(0xff02_0000_0000_0000_0000_0001_ff00_0000 | u128::from(low));
        let [.., a, b, c] = group.0.to_be_bytes();
        let mut frame = vec![0; L4 + LEN];
        ethernet::address(&mut frame, [0x33, 0x33, 0xff, a, b, c], self.mac);
        set_word(&mut frame, 12, ethernet::IPV6);
        frame[14] = 6 << 4;
        frame[19] = 32;
        frame[20..22].copy_from_slice(&[ICMPV6, 255]);
        frame[22..38].copy_from_slice(&self.asker.0.to_be_bytes());
        frame[38..54].copy_from_slice(&group.0.to_be_bytes());
        frame[L4] = SOLICITATION;
        frame[L4 + 8..L4 + 24].copy_from_slice(&self.gateway.0.to_be_bytes());
        frame[L4 + 24..L4 + 26].copy_from_slice(&[1, 1]);
        frame[L4 + 26..].copy_from_slice(&self.mac);
        let pseudo = checksum::pseudo_header(self.asker, group, ICMPV6, LEN);
        let value = checksum::finish(pseudo + checksum::sum(&frame[L4..]));
        set_word(&mut frame, L4 + 2, value);
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dataplane::nic::memory::MemoryFrame;
    use dataplane::wire::{self, Parsed};

    use super::*;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// Each side looks for the other.
    fn two_sides(here: &str, there: &str) -> [Neighbors; 2] {
        [(1, here, there), (2, there, here)].map(|(last, own, other)| {
            let own = address(own);
            Neighbors::new([2, 0, 0, 0, 0, last], HashSet::from([own]), own, address(other))
        })
    }

    fn deliver(to: &mut Neighbors, frame: &mut MemoryFrame) -> bool {
        match wire::parse(frame.bytes()).expect("a readable frame") {
            Parsed::Arp { at } => to.on_arp(frame.bytes_mut(), at),
            Parsed::Ip(headers) => to.on_other(frame, &headers),
        }
    }

    #[test]
    fn a_question_finds_the_mac_address_in_both_families() {
        for [here, there] in [["10.0.1.10", "10.0.1.1"], ["2001:db8::10", "2001:db8::1:1"]] {
            let [mut asking, mut asked] = two_sides(here, there);
            let mut frame = MemoryFrame::new(&asking.question());
            assert!(deliver(&mut asked, &mut frame), "answered");
            assert!(!deliver(&mut asking, &mut frame), "an answer is not answered");
            assert_eq!(asking.gateway_mac(), Some([2, 0, 0, 0, 0, 2]));
        }
    }

    #[test]
    fn questions_for_others_are_not_answered() {
        for [here, there] in [["10.0.1.10", "10.0.1.1"], ["2001:db8::10", "2001:db8::1"]] {
            let [asking, _] = two_sides(here, there);
            let [mut bystander, _] = two_sides(here, there);
            assert!(!deliver(&mut bystander, &mut MemoryFrame::new(&asking.question())));
        }
    }
}
