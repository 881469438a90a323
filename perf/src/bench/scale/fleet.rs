//! Workers of one gateway with open connections, and packets for each.

use core_affinity::CoreId;
use dataplane::conntrack::ConntrackConfig;
use dataplane::nic::Frame;
use vipgate::dpdk::Mbuf;

use super::race::{Lane, race};
use super::{Error, QUARTERS, WARM_UP};
use crate::bench::rig::bed::Bed;
use crate::bench::rig::fill::SMALL;
use crate::bench::rig::flows::{Choice, Kind};
use crate::bench::rig::frames;
use crate::bench::rig::gateway::{self, Gateway};
use crate::bench::rig::machine::Machine;
use crate::bench::rig::network::{self, IN, OUT};
use crate::bench::rig::nic::RING;
use crate::bench::rig::tally::Tally;

/// Room for connections at a worker: chance gives one of two some more than the other.
const TABLE: usize = 1_100_000;
const SERVICES: u32 = 100;
const KIND: Kind = Kind::UDP4;
/// Turns without a frame after which nothing is on its way any more.
const QUIET: usize = 3;

/// The table of one worker.
pub(super) fn table() -> ConntrackConfig {
    gateway::conntrack(TABLE, 1, std::time::Duration::from_secs(100))
}

/// The workers.
pub(super) struct Fleet {
    pub(super) beds: Vec<Bed<Gateway>>,
    /// Numbers of the connections that each worker owns.
    owned: Vec<Vec<u32>>,
    choices: Vec<Choice>,
}

impl Fleet {
    /// Opens so many connections a worker, all through the first one's queue.
    pub(super) fn open(
        machine: &Machine,
        ring: &mut Vec<Mbuf>,
        workers: u16,
        connections: u32,
    ) -> Result<Self, Error> {
        let beds = Bed::gateways(machine, &table(), network::tables(KIND, SERVICES), workers)?;
        let total = connections * u32::from(workers);
        let owned = beds.iter().map(|_| Vec::new()).collect();
        let mut fleet = Self { beds, owned, choices: vec![Choice::default(); total as usize] };
        let before = fleet.tally();
        let mut spare = Vec::with_capacity(RING);
        for first in (0..total).step_by(RING) {
            let count = ((total - first) as usize).min(RING);
            spare.extend(ring.drain(count..));
            fleet.batch(ring, first)?;
            ring.append(&mut spare);
        }
        let happened = fleet.tally().since(&before);
        if happened.created != u64::from(total) || happened.drops.iter().sum::<u64>() > 0 {
            let words = happened.words();
            return Err(Error(format!("{total} connections were to be opened: {words}")));
        }
        Ok(fleet)
    }

    fn batch(&mut self, ring: &mut Vec<Mbuf>, first: u32) -> Result<(), Error> {
        for (number, frame) in (first..).zip(ring.iter_mut()) {
            frames::write(frame, OUT, &KIND.flow(number, SERVICES), 0, SMALL);
        }
        self.beds[0].offer(OUT, ring);
        for (worker, mut sent) in self.run().into_iter().enumerate() {
            for frame in &mut sent {
                let read = frames::read(frame.bytes());
                let choice = read.as_ref().and_then(Choice::of);
                let (Some(read), Some(choice)) = (read, choice) else {
                    return Err(Error("a new flow went to no pod".into()));
                };
                let number = Kind::number(&read);
                self.choices[number as usize] = choice;
                self.owned[worker].push(number);
                frames::write(frame, IN, &read.reversed(), 0, SMALL);
            }
            self.beds[worker].offer(IN, &mut sent);
        }
        self.run().iter_mut().for_each(|sent| ring.append(sent));
        Ok(())
    }

    /// Polls all workers until nothing moves any more; returns what each is done with.
    fn run(&mut self) -> Vec<Vec<Mbuf>> {
        let mut quiet = 0;
        while quiet < QUIET {
            let frames: usize = self.beds.iter_mut().map(Bed::poll).sum();
            quiet = if frames == 0 { quiet + 1 } else { 0 };
        }
        let collect = |bed: &mut Bed<Gateway>| {
            let mut done = Vec::new();
            bed.collect(&mut done);
            done
        };
        self.beds.iter_mut().map(collect).collect()
    }

    /// What all workers' counters say.
    pub(super) fn tally(&mut self) -> Tally {
        self.beds.iter_mut().map(Bed::tally).fold(Tally::NONE, |sum, tally| sum.plus(&tally))
    }

    /// Packets for a worker's queue, all of them its own.
    pub(super) fn packets(&self, worker: usize) -> Packets<'_> {
        Packets::new(&self.owned, worker, 0)
    }

    /// Runs all workers at once, each with a ring and a core. Returns their packets per cycle; the counters must say that
    /// all were forwarded, and that so many changed hands as were to.
    pub(super) fn race(
        &mut self,
        rings: &mut [Vec<Mbuf>],
        cores: &[CoreId],
        quarters: usize,
        rounds: usize,
    ) -> Result<f64, Error> {
        let before = self.tally();
        let handed_in = RING * quarters / QUARTERS;
        let owned = &self.owned;
        let packets = (0..owned.len()).map(|worker| Packets::new(owned, worker, quarters));
        let lanes = self.beds.iter_mut().zip(rings).zip(cores).zip(packets);
        let rate = race(
            lanes.map(|(((bed, ring), &core), packets)| Lane {
                bed,
                ring,
                core,
                packets,
                handed_in,
            }),
            rounds,
        );
        let happened = self.tally().since(&before);
        let all = ((rounds + rounds / WARM_UP) * RING * self.owned.len()) as u64;
        let handed = all * quarters as u64 / QUARTERS as u64;
        let expected = Tally {
            received: all,
            forwarded: all,
            handed_over: handed,
            handed_in: handed,
            connections: happened.connections,
            ..Tally::NONE
        };
        // A worker that waits in vain was robbed, and the counters know how.
        happened.must_be(&expected).and(rate)
    }

    /// Judges frames that came out.
    pub(super) fn judge(&self, ring: &[Mbuf]) -> Result<(), Error> {
        for frame in ring {
            let Some(read) = frames::read(frame.bytes()) else {
                return Err(Error("a frame came out as something else".into()));
            };
            let number = Kind::number(&read);
            let flow = KIND.flow(number, SERVICES);
            let Some(choice) = self.choices.get(number as usize) else {
                return Err(Error(format!("a frame came out as one of {read:?}")));
            };
            let inside = choice.inside(&flow, KIND.masquerade);
            frames::judge(frame, IN, &inside)
                .map_err(|why| Error(format!("the frame of flow {number} {why}")))?;
        }
        Ok(())
    }
}

/// The packets of one queue. Connections take turns, in an order that is random to the tables: their numbers' hashes.
#[derive(Clone, Debug)]
pub(super) struct Packets<'a> {
    own: &'a [u32],
    other: &'a [u32],
    quarters: usize,
    next: [usize; 2],
}

impl<'a> Packets<'a> {
    /// So many quarters of them are of another worker's connections.
    fn new(owned: &'a [Vec<u32>], worker: usize, quarters: usize) -> Self {
        let other = (worker + 1) % owned.len();
        Self { own: &owned[worker], other: &owned[other], quarters, next: [0; 2] }
    }

    /// Writes the next of them.
    pub(super) fn write(&mut self, ring: &mut [Mbuf]) {
        for (at, frame) in ring.iter_mut().enumerate() {
            let foreign = at % QUARTERS < self.quarters;
            let numbers = if foreign { self.other } else { self.own };
            let next = &mut self.next[usize::from(foreign)];
            let number = numbers[*next];
            *next = if *next + 1 < numbers.len() { *next + 1 } else { 0 };
            frames::write(frame, OUT, &KIND.flow(number, SERVICES), 0, SMALL);
        }
    }
}
