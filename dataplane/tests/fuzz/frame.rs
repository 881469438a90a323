//! Any bytes as frames, one after another, at a gateway with Services: no panic, no frame lost, nothing left for a VIP,
//! and no checksum made wrong.
//!
//! An input is records: how the frame comes, the time before it, its length (two bytes), the frame.

use std::net::IpAddr;

use super::Target;
use crate::support::frames::{destination, repair, services};
use crate::support::gateway::{FAMILIES, Fate, Gateway, IN, OUT, Setup};
use crate::support::judge::{checked, judge};

/// Bytes of a record but for the frame.
const HEAD: usize = 4;
/// Lengths are below this: longer than any MTU.
const LENGTHS: u16 = 1_600;

pub struct Frames {
    gateway: Gateway,
    vips: Vec<IpAddr>,
}

impl Frames {
    pub fn new() -> Self {
        let mut setup = Setup { workers: 2, ..Setup::default() };
        setup.conntrack.connections_v4 = 64;
        setup.conntrack.connections_v6 = 64;
        let mut gateway = Gateway::new(setup);
        gateway.judged = false;
        for f in FAMILIES {
            gateway.apply(f.client, &services(f));
        }
        let vips = gateway.writer.table().vips().map(|(address, _)| address).collect();
        Self { gateway, vips }
    }

    /// Ends connections, fragments and what is parked, and refills the allowances.
    fn renew(&mut self) {
        let before = self.gateway.totals();
        for _ in 0..3 {
            self.gateway.now = self.gateway.now.after(4_000_000);
            for _ in 0..10 {
                self.gateway.now = self.gateway.now.after(1);
                self.gateway.poll();
            }
        }
        assert_eq!(self.gateway.connections(), 0);
        self.gateway.collect(&before);
        self.gateway.wanted();
    }

    fn receive(&mut self, how: u8, frame: &[u8]) {
        let before = self.gateway.totals();
        let port = if how & 1 == 0 { OUT } else { IN };
        let from_kernel = how & 2 == 2;
        if from_kernel {
            self.gateway.put_injected(port, frame);
        } else {
            self.gateway.put(usize::from(how >> 2 & 1), port, frame);
        }
        self.gateway.poll();
        let fates = self.gateway.collect(&before);
        let ended = fates.iter().filter(|fate| !matches!(fate, Fate::Dropped(_))).count();
        // With a first fragment go those that were held for it.
        let released = before.held().saturating_sub(self.gateway.totals().held());
        assert!(
            ended as u64 <= 1 + released && !fates.is_empty(),
            "one frame, one fate: {fates:?}"
        );
        let was_right = checked(frame).is_ok();
        for fate in fates {
            match fate {
                Fate::Answered(_, answer) => judge(&answer),
                // What the kernel says may be what the engine does not understand, and is passed on.
                Fate::Sent(_, sent) if !from_kernel => {
                    let vip = destination(&sent).filter(|address| self.vips.contains(address));
                    assert_eq!(vip, None, "left for a VIP: {sent:02x?}");
                    if was_right {
                        judge(&sent);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Target for Frames {
    fn run(&mut self, mut input: &[u8]) {
        self.renew();
        while let Some((&[how, gap, high, low], rest)) = input.split_first_chunk::<HEAD>() {
            let len = usize::from(u16::from_be_bytes([high, low]) % LENGTHS);
            let (frame, rest) = rest.split_at(len.min(rest.len()));
            let mut frame = frame.to_vec();
            if how & 8 == 8 {
                repair(&mut frame);
            }
            // From a millisecond to some minutes.
            let millis = u64::from(gap) * if how & 16 == 16 { 1_000 } else { 1 };
            self.gateway.now = self.gateway.now.after(millis);
            self.receive(how, &frame);
            input = rest;
        }
    }
}
