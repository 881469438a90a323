//! Two devices, each with a generator on its own wire, measured in turns.
//!
//! The device that is not measured is stopped and needs no core. Every trial is checked: what came back was right, the
//! gateway counted what the generator counted, and made no connection anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use dataplane::verdict::DropReason;
use vipgate::dpdk::{Mempool, QueuePair};

use super::super::Error;
use super::cores::Thread;
use super::device::{Device, Name};
use super::gateway::{Change, Gateway};
use super::generator::{Generator, Load};
use super::lab::{self, Belongings, Ports};
use super::options::Settings;
use super::search::{Goal, search};
use super::testpmd::Testpmd;
use super::trial::Trial;

/// How long opening connections may take, in seconds.
const OPENING: f64 = 15.0;
/// After so long the gateway's counters are those of now: its worker tells them once a millisecond.
const COUNTED: Duration = Duration::from_millis(20);
/// How long others have both cores between two trials.
const REST: Duration = Duration::from_millis(8);
/// A trial says nothing when one of the threads waited for its core for so long, or the generator stood still.
const WAITED: Duration = Duration::from_micros(50);
const STALLED: Duration = Duration::from_millis(1);
/// So many such trials in a row: the machine is too busy to be choosy.
const MOST_VOID: u32 = 5;
/// What drops frames when more come than a core can take. Anything else means that they went another way than a case says.
const OVERLOAD: [DropReason; 1] = [DropReason::TransmitFull];
/// Frames beside ours that may be on a wire during a trial: the gateway's kernel talks.
const CHATTER: u64 = 256;

/// A device and its generator.
#[derive(Debug)]
struct Side {
    device: Device,
    generator: Generator<QueuePair, Arc<Mempool>>,
    /// The thread of the device that moves packets.
    worker: Thread,
}

/// The bench. Fields are dropped in order: processes and queues, ports, what they need.
#[derive(Debug)]
pub(super) struct Bench {
    sides: [Side; 2],
    ports: Ports,
    _belongings: Belongings,
    /// The generator's thread.
    own: Thread,
    hz: u64,
    /// From then on nothing is repeated.
    hurry: Instant,
    conduct: Conduct,
}

/// How trials went.
#[derive(Clone, Debug, Default)]
pub(super) struct Conduct {
    /// All trials, and those that said nothing because somebody else had one of the cores.
    pub(super) trials: u32,
    pub(super) void: u32,
    /// Where vipgate's losses were counted, in trials with losses.
    pub(super) losses: BTreeMap<String, u64>,
}

/// The throughput of a device.
#[derive(Clone, Debug)]
pub(super) struct Throughput {
    /// Frames a second without loss.
    pub(super) zero_loss: f64,
    /// Frames a second that come back when there are too many.
    pub(super) overload: f64,
    /// The longest loss in a row at the lowest rate that was too much, in frames.
    pub(super) longest_gap: u64,
    /// Cycles of the device's core a frame, under overload.
    pub(super) cycles: f64,
    /// Share of its core that was busy then.
    pub(super) busy: f64,
    /// Whether the generator gave out before the device did.
    pub(super) generator_bound: bool,
}

impl Bench {
    /// Starts both devices and the generator.
    pub(super) fn set_up(settings: &Settings, hurry: Instant) -> Result<Self, Error> {
        let belongings = Belongings::take(settings.memory_mib())?;
        lab::enter_namespace()?;
        let folder = belongings.folder();
        let sockets = Name::BOTH.map(|name| folder.join(format!("{}.sock", name.text())));
        let (ports, queues) = Ports::open(&sockets, settings.generator_core)?;
        let [first, second] = &sockets;
        let testpmd = Testpmd::start(&settings.testpmd, &settings.place(folder, first))?;
        let gateway = Gateway::start(&settings.vipgate, &settings.place(folder, second))?;
        ports.wait_for_links()?;
        gateway.know_neighbors(ports.mac(Name::Vipgate as usize)?)?;
        // Not before: the devices would inherit it.
        core_affinity::set_for_current(CoreId { id: settings.generator_core });
        let own = Thread::current();
        own.prefer()?;
        let hz = ports.eal.tsc_hz();
        let [first, second] = [Device::Testpmd(testpmd), Device::vipgate(gateway)?];
        let mut sides = Vec::new();
        for (number, (device, nic)) in [first, second].into_iter().zip(queues).enumerate() {
            let worker = device.worker()?;
            worker.prefer()?;
            let mac = ports.mac(number)?;
            let generator = Generator::new(nic, ports.pool.clone(), device.effect(), mac, hz);
            sides.push(Side { device, generator, worker });
        }
        let Ok(sides) = sides.try_into() else { return Err(Error("a port has no queue".into())) };
        let conduct = Conduct::default();
        Ok(Self { sides, ports, _belongings: belongings, own, hz, hurry, conduct })
    }

    /// Ends both devices as an operator would, and counts the packet buffers.
    pub(super) fn close(self) -> Result<(), Error> {
        for Side { device, generator, .. } in self.sides {
            device.end()?;
            drop(generator);
        }
        self.ports.close()
    }

    pub(super) fn hz(&self) -> u64 {
        self.hz
    }

    /// How trials went since this was last asked.
    pub(super) fn conduct(&mut self) -> Conduct {
        std::mem::take(&mut self.conduct)
    }

    /// Opens the first `flows` connections through vipgate, with an answer each, so that they are established.
    pub(super) fn open(&mut self, flows: u32) -> Result<(), Error> {
        self.turn_to(Name::Vipgate)?;
        let side = self.side(Name::Vipgate);
        let left = side.generator.open(flows, OPENING);
        thread::sleep(COUNTED);
        side.device.count()?;
        let Device::Vipgate { gateway, counters, .. } = &side.device else { return Ok(()) };
        let (entries, half_open) = (counters.entries, counters.half_open);
        if left > 0 || entries != u64::from(flows) || half_open > 0 {
            return Err(gateway.process.fault(&format!(
                "has {entries} connections, {half_open} of them unanswered, where {flows} were opened and {left} had no answer"
            )));
        }
        Ok(())
    }

    fn side(&mut self, name: Name) -> &mut Side {
        &mut self.sides[name as usize]
    }

    /// Gives one device its core and stops the other.
    pub(super) fn turn_to(&mut self, name: Name) -> Result<(), Error> {
        for other in Name::BOTH {
            self.side(other).device.process().pause(other != name)?;
        }
        thread::sleep(REST);
        Ok(())
    }

    /// Overload, and the search for the zero-loss rate, from `start` on if that is known.
    pub(super) fn throughput(
        &mut self,
        name: Name,
        load: Load,
        goal: Goal,
        start: Option<f64>,
    ) -> Result<Throughput, Error> {
        self.turn_to(name)?;
        self.side(name).device.forget()?;
        let overload = self.trial(name, &Load { rate: f64::INFINITY, ..load })?;
        if overload.received == 0 {
            return Err(self.side(name).device.process().fault("sent nothing back"));
        }
        let hz = self.hz as f64;
        let cycles = self.side(name).device.cycles_per_packet()?;
        let busy = cycles * overload.received_rate() / hz;
        let (mut kept, mut gap, mut bound) = (BTreeMap::new(), BTreeMap::new(), false);
        let most = overload.offered_rate();
        let found =
            search(goal, start.unwrap_or_else(|| overload.received_rate() * 0.95), most, |rate| {
                let trial = self.trial(name, &Load { rate, ..load })?;
                if trial.lossless() {
                    bound = !trial.kept();
                    kept.insert(rate.to_bits(), trial.offered_rate());
                } else {
                    gap.insert(rate.to_bits(), trial.longest_gap);
                }
                Ok(trial.lossless() && trial.kept())
            })?;
        Ok(Throughput {
            zero_loss: kept.get(&found.rate.to_bits()).copied().unwrap_or(found.rate),
            overload: overload.received_rate(),
            longest_gap: found
                .too_much
                .and_then(|rate| gap.get(&rate.to_bits()).copied())
                .unwrap_or(0),
            cycles,
            busy,
            generator_bound: bound || found.too_much.is_none(),
        })
    }

    /// One trial of the device whose turn it is; those that say nothing are repeated.
    pub(super) fn trial(&mut self, name: Name, load: &Load) -> Result<Trial, Error> {
        let mut void = 0;
        loop {
            self.rest(name)?;
            let waited = self.waited(name);
            let trial = self.sides[name as usize].generator.run(load);
            let waited = self.waited(name) - waited;
            self.check(name, &trial)?;
            self.conduct.trials += 1;
            let stalled = Duration::from_secs_f64(trial.stall as f64 / self.hz as f64);
            if waited < WAITED && stalled < STALLED {
                return Ok(trial);
            }
            self.conduct.void += 1;
            void += 1;
            if void == MOST_VOID || Instant::now() > self.hurry {
                return Ok(trial);
            }
        }
    }

    /// Leaves both cores to others for a moment.
    fn rest(&mut self, name: Name) -> Result<(), Error> {
        let process = self.side(name).device.process();
        process.pause(true)?;
        thread::sleep(REST);
        process.pause(false)
    }

    fn waited(&self, name: Name) -> Duration {
        Duration::from_nanos(self.sides[name as usize].worker.waited() + self.own.waited())
    }

    /// Holds a trial against the device's own counters.
    fn check(&mut self, name: Name, trial: &Trial) -> Result<(), Error> {
        let Trial { wrong, checked, disordered, taken, .. } = *trial;
        let received = trial.received + trial.stragglers;
        let side = &mut self.sides[name as usize];
        if wrong + disordered > 0 {
            let what = format!(
                "sent back {wrong} wrong frames of {checked} that were looked at, and {disordered} twice or late"
            );
            return Err(side.device.process().fault(&what));
        }
        let Some(change) = side.device.count()? else { return Ok(()) };
        let Change { received: seen, sent, created, gone, .. } = change;
        let process = side.device.process();
        if !(taken..=taken + CHATTER).contains(&seen)
            || !(received..=received + CHATTER).contains(&sent)
        {
            return Err(process.fault(&format!(
                "counted {seen} frames received and {sent} sent where the generator sent {taken} and received {received}"
            )));
        }
        if created + gone > 0 {
            return Err(process.fault(&format!(
                "made {created} connections anew and ended {gone} in a trial of known ones"
            )));
        }
        let known = |reason: &String| {
            reason.starts_with("port ") || OVERLOAD.iter().any(|known| known.name() == reason)
        };
        if let Some((reason, count)) = change.drops.iter().find(|(reason, _)| !known(reason)) {
            return Err(process.fault(&format!("dropped {count} frames as {reason}")));
        }
        if !trial.lossless() {
            let ring = ("ring to vipgate full".to_owned(), trial.refused);
            let losses = change.drops.into_iter().chain([ring]).filter(|(_, count)| *count > 0);
            for (reason, count) in losses {
                *self.conduct.losses.entry(reason).or_default() += count;
            }
        }
        Ok(())
    }
}
