//! Half the packets are SYNs of clients that never answer; the other half belongs to connections that are open.

use vipgate::dpdk::Mbuf;

use super::{Error, SERVICES, Stand, TABLE, measurement};
use crate::bench::rig::bed::Bed;
use crate::bench::rig::fill::{Filled, Newcomers, SMALL};
use crate::bench::rig::flows::{Kind, Order};
use crate::bench::rig::frames::{self, ACK};
use crate::bench::rig::gateway::Gateway;
use crate::bench::rig::network::{self, IN, OUT};
use crate::bench::rig::nic::RING;
use crate::bench::rig::tally::Tally;
use crate::bench::rig::times::Times;
use crate::report::{Better, Measurement};

/// Open connections.
const OPEN: u32 = TABLE / 2;
/// Rings of packets a repetition.
const ROUNDS: usize = 256;
/// Rings, half of them flood, until the flood has all the room it gets.
const WARM_UP: usize = 2 * TABLE as usize / RING;

/// A flood beside open connections, packet by packet.
pub(super) fn run(
    stand: &mut Stand,
    bed: &mut Bed<Gateway>,
    case: &str,
) -> Result<Vec<Measurement>, Error> {
    bed.clear()?;
    bed.publish(network::tables(Kind::TCP4, SERVICES));
    let open = Filled::open(bed, &mut stand.ring, Kind::TCP4, SERVICES, OPEN)?;
    let mut packets = Packets {
        order: Order::uniform(OPEN),
        newcomers: Newcomers::new(Kind::TCP4, SERVICES),
        open: &open,
    };
    packets.flood(bed, &mut stand.ring, WARM_UP)?;
    let (mut calm, mut flooded, mut arrived) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stand.repetitions {
        calm.push(packets.calm(bed, &mut stand.ring)?);
        let before = bed.tally();
        let (cost, share) = packets.flood(bed, &mut stand.ring, ROUNDS)?;
        let happened = bed.tally().since(&before);
        // On a slow machine the first of the flood are old enough to go by themselves.
        if happened.evicted + happened.expired == 0 {
            return Err(Error(format!("the flood pushes nothing out: {}", happened.words())));
        }
        flooded.push(cost);
        arrived.push(share);
    }
    let lost = open.lost(bed, &mut stand.ring)? as f64;
    let each = flooded.iter().zip(&calm).map(|(both, one)| 2.0 * both - one).collect();
    let cycles = |metric, samples| measurement(case, metric, "cycles", Better::Less, samples);
    Ok(vec![
        measurement(case, "established_forwarded", "ratio", Better::More, arrived).target(1.0),
        measurement(case, "open_connections_lost", "connections", Better::Less, vec![lost])
            .target(0.0),
        cycles("cycles_per_packet", flooded),
        cycles("cycles_per_established", calm)
            .note("between the flood's packets, in the same table"),
        cycles("cycles_per_flood_packet", each)
            .note("twice the cost per packet of both, less that of an established one"),
    ])
}

struct Packets<'a> {
    open: &'a Filled,
    order: Order,
    newcomers: Newcomers,
}

impl Packets<'_> {
    fn established<'f>(&mut self, frames: impl IntoIterator<Item = &'f mut Mbuf>) {
        for frame in frames {
            frames::write(frame, OUT, &self.open.flow(self.order.next()), ACK, SMALL);
        }
    }

    /// Established connections alone; cycles per packet.
    fn calm(&mut self, bed: &mut Bed<Gateway>, ring: &mut Vec<Mbuf>) -> Result<f64, Error> {
        let packets = (ROUNDS * RING) as u64;
        let before = bed.tally();
        let times = bed.rounds(OUT, ring, ROUNDS, |ring| self.established(ring))?;
        let happened = bed.tally().since(&before);
        let Tally { expired, connections, .. } = happened;
        let expected =
            Tally { received: packets, forwarded: packets, expired, connections, ..Tally::NONE };
        happened.must_be(&expected)?;
        Ok(times.mean() / RING as f64)
    }

    /// One for one; cycles per packet of either sort, and the share of the established ones that was forwarded.
    fn flood(
        &mut self,
        bed: &mut Bed<Gateway>,
        ring: &mut Vec<Mbuf>,
        rounds: usize,
    ) -> Result<(f64, f64), Error> {
        let (mut times, mut forwarded) = (Times::default(), 0);
        for _ in 0..rounds {
            self.established(ring.iter_mut().step_by(2));
            self.newcomers.write(ring.iter_mut().skip(1).step_by(2));
            let round = bed.round(OUT, ring)?;
            times.push(round.cycles);
            // Frames that were sent lie in front.
            let sent = &ring[..round.sent[usize::from(IN)]];
            forwarded += sent.iter().filter(|frame| frames::tcp_flags(frame) == ACK).count();
        }
        let share = 2.0 * forwarded as f64 / (rounds * RING) as f64;
        Ok((times.mean() / RING as f64, share))
    }
}
