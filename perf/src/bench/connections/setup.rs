//! Connections that come, and connections that come and go.

use super::{BEGINNING, Error, SERVICES, Stand, TABLE, measurement};
use crate::bench::rig::bed::Bed;
use crate::bench::rig::fill::{Filled, Newcomers};
use crate::bench::rig::flows::Kind;
use crate::bench::rig::gateway::Gateway;
use crate::bench::rig::network::{self, OUT};
use crate::bench::rig::nic::RING;
use crate::bench::rig::tally::Tally;
use crate::bench::rig::times::Times;
use crate::report::{Better, Measurement};

/// Connections of others in the table, and rings of new ones a repetition.
const OTHERS: u32 = TABLE / 2;
const ROUNDS: usize = 400;
/// Rings of new connections a repetition of coming and going, and the milliseconds that pass with each. Of sixty-four a
/// millisecond, each there for as long as it may idle and until it is swept, there are never as many as may have only
/// begun, half of the table: so none is evicted, and all go by time.
const CHURN_ROUNDS: usize = 400;
const CHURN_MILLIS: u64 = 16;
/// Rings until as many go as come.
const CHURN_WARM_UP: usize = 1000;
/// New connections a second and core, in millions; and when as many end meanwhile.
const SETUP_RATE: f64 = 6.0;
const CHURN_RATE: f64 = 3.0;

/// New connections, in a table that is half full.
pub(super) fn come(
    stand: &mut Stand,
    bed: &mut Bed<Gateway>,
    kind: Kind,
    case: &str,
) -> Result<Vec<Measurement>, Error> {
    bed.clear()?;
    bed.publish(network::tables(Kind::TCP4, SERVICES));
    let others = Filled::open(bed, &mut stand.ring, Kind::TCP4, SERVICES, OTHERS)?;
    bed.publish(network::tables(kind, SERVICES));
    let packets = (ROUNDS * RING) as u64;
    let mut newcomers = Newcomers::new(kind, SERVICES);
    let mut costs = Vec::new();
    for _ in 0..stand.repetitions {
        let before = bed.tally();
        let times = bed.rounds(OUT, &mut stand.ring, ROUNDS, |ring| newcomers.write(ring))?;
        let happened = bed.tally().since(&before);
        let expected = Tally {
            received: packets,
            forwarded: packets,
            created: packets,
            connections: u64::from(OTHERS) + packets,
            ..Tally::NONE
        };
        happened.must_be(&expected)?;
        costs.push(times.mean() / RING as f64);
        bed.expire(BEGINNING, u64::from(OTHERS))?;
    }
    stand.must_know(bed, &others)?;
    let rates = costs.iter().map(|cycles| stand.machine.hz() / cycles / 1e6).collect();
    Ok(vec![
        measurement(case, "new_connections", "M/s", Better::More, rates).target(SETUP_RATE),
        measurement(case, "cycles_per_connection", "cycles", Better::Less, costs),
    ])
}

/// New connections, while as many end by time.
pub(super) fn come_and_go(
    stand: &mut Stand,
    bed: &mut Bed<Gateway>,
    kind: Kind,
    case: &str,
) -> Result<Vec<Measurement>, Error> {
    bed.clear()?;
    bed.publish(network::tables(kind, SERVICES));
    let mut newcomers = Newcomers::new(kind, SERVICES);
    let mut run = |bed: &mut Bed<Gateway>, rounds| -> Result<Times, Error> {
        let mut times = Times::default();
        for _ in 0..rounds {
            newcomers.write(&mut stand.ring);
            bed.pass(CHURN_MILLIS);
            times.push(bed.round(OUT, &mut stand.ring)?.cycles);
        }
        Ok(times)
    };
    run(bed, CHURN_WARM_UP)?;
    let packets = (CHURN_ROUNDS * RING) as u64;
    let start = bed.tally();
    let (mut costs, mut full) = (Vec::new(), Vec::new());
    for _ in 0..stand.repetitions {
        let before = bed.tally();
        let times = run(bed, CHURN_ROUNDS)?;
        let happened = bed.tally().since(&before);
        let Tally { expired, connections, .. } = happened;
        let expected = Tally {
            received: packets,
            forwarded: packets,
            created: packets,
            expired,
            connections,
            ..Tally::NONE
        };
        happened.must_be(&expected)?;
        costs.push(times.mean() / RING as f64);
        full.push(connections as f64 / f64::from(TABLE));
    }
    let Tally { created, expired, .. } = bed.tally().since(&start);
    if expired * 10 < created * 9 {
        return Err(Error(format!("{created} connections came and only {expired} went")));
    }
    let rates = costs.iter().map(|cycles| stand.machine.hz() / cycles / 1e6).collect();
    Ok(vec![
        measurement(case, "new_and_expired", "M/s", Better::More, rates).target(CHURN_RATE),
        measurement(case, "cycles_per_connection", "cycles", Better::Less, costs),
        measurement(case, "table_in_use", "ratio", Better::Less, full),
    ])
}
