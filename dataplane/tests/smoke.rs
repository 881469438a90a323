//! Bytes nobody meant: random frames and damaged ones, through whole workers.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod support;

use std::net::IpAddr;

use support::frames::{damaged, destination, golden, services};
use support::gateway::{FAMILIES, Fate, Gateway, IN, OUT, Setup};
use support::random::Random;

const FRAMES: usize = 400_000;
const BURST: usize = 100;

/// I1, I8: no panic, no frame lost, and nothing for a VIP leaves as it came.
#[test]
fn damaged_frames_do_no_harm() {
    let golden: Vec<Vec<u8>> = FAMILIES.into_iter().flat_map(golden).collect();
    let mut random = Random::new(4711);
    let mut gateway = Gateway::new(Setup { workers: 2, ..Setup::default() });
    gateway.judged = false;
    for f in FAMILIES {
        gateway.apply(f.client, &services(f));
    }
    let vips: Vec<IpAddr> = gateway.writer.table().vips().map(|(address, _)| address).collect();
    let mut fates = [0; 5];
    for round in 0..FRAMES / BURST {
        let before = gateway.totals();
        for _ in 0..BURST {
            let frame = if random.chance(2) {
                (0..random.below(200)).map(|_| random.next() as u8).collect()
            } else {
                damaged(&mut random, &golden)
            };
            gateway.put(random.below(2), random.pick(&[OUT, OUT, OUT, IN]), &frame);
        }
        gateway.poll();
        for fate in gateway.collect_mixed(&before) {
            let kind = match fate {
                Fate::Sent(_, frame) | Fate::Answered(_, frame) => {
                    let vip = destination(&frame).filter(|address| vips.contains(address));
                    assert_eq!(vip, None, "left for a VIP: {frame:02x?}");
                    0
                }
                Fate::Punted(..) => 1,
                Fate::Dropped(_) => 2,
                Fate::Parked => 3,
                Fate::Held => 4,
            };
            fates[kind] += 1;
        }
        gateway.now = gateway.now.after(random.below(3_000) as u64);
        // Endpoints come and go meanwhile.
        if round % 50 == 0 {
            let f = FAMILIES[random.below(2)];
            let rows = if random.chance(20) { vec![] } else { services(f).to_vec() };
            gateway.apply(f.client, &rows);
            gateway.apply(f.client, &services(f));
        }
    }
    assert!(fates[..3].iter().all(|&count| count > FRAMES / 100), "{fates:?}");
}
