//! Frames that no honest sender makes, among those of clients who go on working.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;

use crate::client::request;
use crate::netns::Namespace;
use crate::service::{Policy, Service};
use crate::site::{CLIENT, Layout, MASQUERADE, NODE, Ports, Site};
use crate::wire::{Wire, ethernet, seal};

const FRAMES: usize = 20_000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn garbage_disturbs_nobody_and_every_frame_is_accounted_for() {
    for ports in [Ports::Tap, Ports::AfPacket] {
        let services =
            [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)];
        let Some(mut site) = Site::new(Layout { ports, ..Layout::default() }, &services) else {
            return;
        };
        let begin = site.metrics();
        let vips: Vec<_> = services.iter().flat_map(Service::vips).collect();
        let done = AtomicBool::new(false);
        let requests = thread::scope(|scope| {
            let sides = [(&site.client, NODE[0]), (&site.backend, MASQUERADE[0])];
            let senders = sides.map(|(end, gateway)| {
                scope.spawn(move || throw(end, gateway).expect("frames can be sent"))
            });
            let client = scope.spawn(|| {
                site.client.run(|| {
                    let mut count = 0;
                    while !done.load(Ordering::SeqCst) || count < vips.len() {
                        let vip = &vips[count % vips.len()];
                        request(vip).unwrap_or_else(|error| panic!("{vip:?}: {error}"));
                        count += 1;
                    }
                    count
                })
            });
            let sent: Vec<_> = senders.into_iter().map(|sender| sender.join()).collect();
            done.store(true, Ordering::SeqCst);
            for result in sent {
                result.expect("frames were sent");
            }
            client.join()
        });
        requests.expect("every request was answered");

        let end = site.quiet_metrics();
        let (came, ended) = end.balance();
        assert_eq!(came, ended, "frames that came, and that ended: {end:?}");
        let received = end.sum("port_rx_packets_total") - begin.sum("port_rx_packets_total");
        assert!(received > FRAMES as u64, "{received} frames came through");
        let dropped = end.sum("drop_packets_total") - begin.sum("drop_packets_total");
        assert!(dropped > FRAMES as u64 / 4, "{dropped} frames were dropped");
        let sent = end.sum_of("worker_packets_total", "outcome=\"forwarded\"")
            + end.sum_of("worker_packets_total", "outcome=\"answered\"");
        assert_eq!(end.sum("port_tx_packets_total"), sent);
        let gateway = site.gateway.take().expect("it runs");
        assert_eq!(gateway.stop().code(), Some(0), "every packet buffer came back");
    }
}

/// A UDP datagram with a wrong checksum, inside the client's namespace.
pub(crate) fn send_wrong_udp(to: SocketAddr) {
    let IpAddr::V4(destination) = to.ip() else { panic!("IPv4 only") };
    let udp = [[0x13, 0x88], to.port().to_be_bytes(), [0, 12], [0x12, 0x34]].concat();
    let frame = Wire::open("eth0").expect("a device");
    let datagram = ipv4(17, destination.octets(), &[udp, b"oops".to_vec()].concat());
    frame.send(&ethernet(frame.gateway(NODE[0]), 0x0800, &datagram)).expect("it is sent");
}

/// Thousands of frames from one end, each an honest one with something wrong.
fn throw(end: &Namespace, gateway: &str) -> io::Result<()> {
    end.run(|| {
        let wire = Wire::open("eth0")?;
        let mac = wire.gateway(gateway);
        let templates = templates(mac);
        let mut random = Random(SEED);
        for number in 0..FRAMES {
            let frame = random.spoil(&templates[number % templates.len()], mac);
            // A full queue is the kernel's way of saying "later".
            while let Err(error) = wire.send(&frame) {
                if error != Errno::ENOBUFS {
                    return Err(error.into());
                }
                thread::sleep(Duration::from_millis(1));
            }
            if number % 64 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    })
}

/// xorshift: the same garbage every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }

    /// A frame with some bytes changed, a length that does not fit, or both; and sometimes pure noise.
    fn spoil(&mut self, template: &[u8], mac: [u8; 6]) -> Vec<u8> {
        let mut frame = template.to_vec();
        if self.below(16) == 0 {
            frame.iter_mut().skip(12).for_each(|byte| *byte = self.below(256).to_le_bytes()[0]);
        }
        for _ in 0..self.below(6) {
            // The addresses of the frame stay, so that it is looked at.
            let at = 12 + self.below(frame.len() - 12);
            frame[at] = self.below(256).to_le_bytes()[0];
        }
        match self.below(8) {
            0 => frame.truncate(14 + self.below(frame.len() - 14)),
            1 => frame.resize(frame.len() + self.below(200), 0xff),
            _ => {}
        }
        // With the header's own checksum right, what is wrong behind it counts.
        if frame.len() >= 34 && frame[12..14] == [8, 0] && self.below(4) > 0 {
            seal(&mut frame[14..34]);
        }
        frame[..6].copy_from_slice(&mac);
        frame
    }
}

/// Honest frames to the VIPs and addresses of a site.
fn templates(mac: [u8; 6]) -> Vec<Vec<u8>> {
    let tcp = |flags| {
        let mut segment = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0];
        segment.resize(40, 0);
        segment
    };
    let udp = [&[0x9c, 0x40, 0, 7, 0, 24, 0, 0], [1; 16].as_slice()].concat();
    let echo = [&[8, 0, 0xf7, 0xff, 0, 0, 0, 0], [0; 8].as_slice()].concat();
    let shared = [203, 0, 113, 10];
    let mut frames = Vec::new();
    let mut v4 = |protocol, destination, payload: &[u8]| {
        frames.push(ethernet(mac, 0x0800, &ipv4(protocol, destination, payload)));
    };
    for flags in [0x02, 0x10, 0x12, 0x04, 0x11, 0x29, 0] {
        v4(6, shared, &tcp(flags));
        v4(6, [203, 0, 113, 20], &tcp(flags));
        v4(6, [10, 96, 0, 10], &tcp(flags));
        v4(6, [192, 0, 2, 1], &tcp(flags));
    }
    for destination in [shared, [192, 0, 2, 1], [10, 0, 1, 1], [10, 0, 1, 200], [224, 0, 0, 9]] {
        v4(17, destination, &udp);
        v4(1, destination, &echo);
        v4(132, destination, &udp);
        v4(47, destination, &udp);
        // An error about a packet of the VIP.
        let quoted = ipv4(17, [198, 51, 100, 9], &udp);
        v4(1, destination, &[&[3, 4, 0, 0, 0, 0, 5, 0xdc], quoted.as_slice()].concat());
    }
    for flags in [0x2000_u16, 0x2001, 0x00b9, 0x1fff] {
        let mut fragment = ipv4(17, shared, &udp);
        fragment[6..8].copy_from_slice(&flags.to_be_bytes());
        seal(&mut fragment[..20]);
        frames.push(ethernet(mac, 0x0800, &fragment));
    }
    let vip6 = "2001:db8:f::10".parse::<Ipv6Addr>().expect("an address").octets();
    let client6 = "2001:db8:1::77".parse::<Ipv6Addr>().expect("an address").octets();
    for (next, payload) in [
        (6, tcp(2)),
        (17, udp.clone()),
        (58, [&[128, 0, 0, 0, 0, 1, 0, 1], [0; 16].as_slice()].concat()),
        (58, [&[2, 0, 0, 0, 0, 0, 5, 0], [0; 48].as_slice()].concat()),
        (0, [&[60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0], udp.as_slice()].concat()),
        (44, [&[17, 0, 0, 1, 0, 0, 0, 9], udp.as_slice()].concat()),
        (44, [&[17, 0, 0, 8, 0, 0, 0, 9], udp.as_slice()].concat()),
        (43, [&[17, 0, 0, 0, 0, 0, 0, 0], udp.as_slice()].concat()),
    ] {
        let length = u16::try_from(payload.len()).expect("small").to_be_bytes();
        let head = [0x60, 0, 0, 0, length[0], length[1], next, 64];
        let packet = [&head, &client6[..], &vip6, &payload].concat();
        frames.push(ethernet(mac, 0x86dd, &packet));
    }
    let asks = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 77, 0, 0, 0, 0, 0, 0];
    frames.push(ethernet(mac, 0x0806, &[&asks[..], &shared].concat()));
    frames.push(ethernet(mac, 0x8100, &[0, 5, 8, 0, 0x45, 0, 0, 20]));
    frames.push(ethernet(mac, 0x88cc, &[2; 46]));
    frames
}

/// From the client.
fn ipv4(protocol: u8, destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let source: Ipv4Addr = CLIENT[0].parse().expect("an address");
    let length = u16::try_from(20 + payload.len()).expect("small").to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 1, 0, 0, 64, protocol, 0, 0];
    let mut packet = [&head, &source.octets()[..], &destination, payload].concat();
    seal(&mut packet[..20]);
    packet
}
