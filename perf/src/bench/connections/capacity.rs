//! A table that is full: all of it is usable, what does not fit is refused by name, and nobody loses anything.

use dataplane::verdict::DropReason;

use super::{Error, LARGE_TABLE, SERVICES, Stand, TABLE, measurement};
use crate::bench::rig::bed::Bed;
use crate::bench::rig::fill::{Filled, Newcomers};
use crate::bench::rig::flows::Kind;
use crate::bench::rig::gateway::Gateway;
use crate::bench::rig::network::{self, OUT};
use crate::bench::rig::nic::RING;
use crate::bench::rig::tally::Tally;
use crate::report::{Better, Measurement};

/// Rings of connections that do not fit any more, a repetition.
const ROUNDS: usize = 200;

/// Ten million open TCP connections at one worker.
pub(super) fn large(
    stand: &mut Stand,
    bed: &mut Bed<Gateway>,
    case: &str,
) -> Result<Vec<Measurement>, Error> {
    bed.publish(network::tables(Kind::TCP4, SERVICES));
    let open = Filled::open(bed, &mut stand.ring, Kind::TCP4, SERVICES, LARGE_TABLE)?;
    let lost = open.lost(bed, &mut stand.ring)?;
    let seconds = open.cycles as f64 / stand.machine.hz();
    let (kept, count) = (f64::from(LARGE_TABLE) - lost as f64, f64::from(LARGE_TABLE));
    let handshakes = count / seconds / 1e6;
    Ok(vec![
        measurement(case, "connections", "connections", Better::More, vec![kept]).target(count),
        measurement(case, "handshakes", "M/s", Better::More, vec![handshakes])
            .note("three packets each, while the table fills from nothing to all of it"),
    ])
}

/// One connection more than fits, again and again.
pub(super) fn past(
    stand: &mut Stand,
    bed: &mut Bed<Gateway>,
    case: &str,
) -> Result<Vec<Measurement>, Error> {
    bed.clear()?;
    bed.publish(network::tables(Kind::TCP4, SERVICES));
    let open = Filled::open(bed, &mut stand.ring, Kind::TCP4, SERVICES, TABLE)?;
    let mut newcomers = Newcomers::new(Kind::TCP4, SERVICES);
    let packets = (ROUNDS * RING) as u64;
    let (mut costs, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..stand.repetitions {
        let before = bed.tally();
        let times = bed.rounds(OUT, &mut stand.ring, ROUNDS, |ring| newcomers.write(ring))?;
        let happened = bed.tally().since(&before);
        let mut expected =
            Tally { received: packets, connections: u64::from(TABLE), ..Tally::NONE };
        expected.drops[DropReason::ConntrackFull as usize] = packets;
        happened.must_be(&expected)?;
        costs.push(times.mean() / RING as f64);
        refused.push(happened.drops[DropReason::ConntrackFull as usize] as f64 / packets as f64);
    }
    let lost = open.lost(bed, &mut stand.ring)? as f64;
    Ok(vec![
        measurement(case, "refused", "ratio", Better::More, refused)
            .target(1.0)
            .note("dropped as conntrack_full"),
        measurement(case, "open_connections_lost", "connections", Better::Less, vec![lost])
            .target(0.0),
        measurement(case, "cycles_per_refused", "cycles", Better::Less, costs),
    ])
}
