//! What happened: counts, latencies, and whether all was well. As text for people, as JSON for scripts.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::tag::Direction;

/// Longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Faults described in full.
const EXAMPLES: usize = 5;

/// One direction, while it is counted.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) bytes: u64,
    /// In nanoseconds.
    latency: Histogram<u64>,
}

/// What is wrong with a packet that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fault {
    /// A checksum is wrong, or half done.
    BadChecksum,
    /// The payload is not as it was sent.
    Altered,
    /// It came in by the other port.
    WrongPort,
    /// Its destination MAC address is not ours.
    WrongMac,
    /// It went to an address or port that is no backend's.
    NotABackend,
    /// It went to another backend than the flow's first packet.
    BackendChanged,
    /// The backend sees a source it should not see.
    WrongSource,
    /// The backend sees another source port than in the flow's first packet.
    SourceChanged,
    /// Two flows look the same to a backend.
    Collision,
    /// A reply that is not from the VIP to the client.
    WrongReply,
    /// It belongs to a flow that was given up.
    Stale,
}

impl Fault {
    const ALL: [Self; 11] = [
        Self::BadChecksum,
        Self::Altered,
        Self::WrongPort,
        Self::WrongMac,
        Self::NotABackend,
        Self::BackendChanged,
        Self::WrongSource,
        Self::SourceChanged,
        Self::Collision,
        Self::WrongReply,
        Self::Stale,
    ];
}

/// Everything that is counted.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) sides: [Side; 2],
    pub(super) opened: u64,
    pub(super) completed: u64,
    pub(super) given_up: u64,
    /// TCP resets and ICMP errors.
    pub(super) refusals: u64,
    /// Frames that are neither ours nor understood, such as the kernel's multicast chatter.
    pub(super) other: u64,
    faults: [u64; Fault::ALL.len()],
    examples: Vec<String>,
    /// How long it took until everything answered, in cycles.
    pub(super) ready: u64,
    /// When the first and the last client packet was sent, in cycles.
    pub(super) sending: Option<(u64, u64)>,
    hz: u64,
}

impl Tally {
    /// All zero, for a clock of `hz` cycles a second.
    pub(super) fn new(hz: u64) -> Self {
        let side = || Side {
            sent: 0,
            received: 0,
            duplicates: 0,
            reordered: 0,
            bytes: 0,
            // Three digits; bounds that are constants and make sense are never refused.
            latency: Histogram::new_with_bounds(1, LONGEST, 3).expect("valid bounds"),
        };
        Self {
            sides: [side(), side()],
            opened: 0,
            completed: 0,
            given_up: 0,
            refusals: 0,
            other: 0,
            faults: [0; Fault::ALL.len()],
            examples: Vec::new(),
            ready: 0,
            sending: None,
            hz,
        }
    }

    pub(super) fn side(&mut self, direction: Direction) -> &mut Side {
        &mut self.sides[direction.index()]
    }

    /// A packet arrived `cycles` after it was built.
    pub(super) fn latency(&mut self, direction: Direction, cycles: u64) {
        let nanos = u128::from(cycles) * 1_000_000_000 / u128::from(self.hz.max(1));
        self.side(direction).latency.saturating_record(u64::try_from(nanos).unwrap_or(LONGEST));
    }

    /// Counts a fault; `example` describes it.
    pub(super) fn fault(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        self.faults[fault as usize] += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{fault:?}: {}", example()));
        }
    }

    /// Packets that were sent and have not arrived as they should.
    pub(super) fn missing(&self) -> u64 {
        self.sides.iter().map(|side| side.sent.saturating_sub(side.received)).sum()
    }

    /// The whole story. `leaked` is the number of buffers that did not come back.
    pub(super) fn report(&self, leaked: u32) -> Report {
        let cycles = self.sending.map_or(0, |(first, last)| last - first);
        let seconds = ratio(cycles, self.hz);
        let [to_backends, to_clients] = [0, 1].map(|index| self.sides[index].report(seconds));
        let faults = Fault::ALL.into_iter().filter(|&fault| self.faults[fault as usize] > 0);
        Report {
            passed: false,
            ready_seconds: ratio(self.ready, self.hz),
            seconds,
            to_backends,
            to_clients,
            flows: Flows {
                opened: self.opened,
                completed: self.completed,
                given_up: self.given_up,
            },
            faults: faults.map(|fault| (fault, self.faults[fault as usize])).collect(),
            fault_examples: self.examples.clone(),
            refusals: self.refusals,
            other_frames: self.other,
            leaked_buffers: leaked,
            interrupted: false,
        }
    }
}

impl Side {
    fn report(&self, seconds: f64) -> Way {
        let at = |quantile| micros(self.latency.value_at_quantile(quantile));
        Way {
            sent: self.sent,
            received: self.received,
            lost: self.sent.saturating_sub(self.received),
            duplicates: self.duplicates,
            reordered: self.reordered,
            packets_per_second: if seconds > 0.0 { whole(self.received) / seconds } else { 0.0 },
            bits_per_second: if seconds > 0.0 { whole(self.bytes * 8) / seconds } else { 0.0 },
            latency_micros: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: micros(self.latency.max()),
            },
        }
    }
}

/// The result of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether all that was required holds.
    pub(super) passed: bool,
    /// From the start of the generator until every VIP and backend answered.
    pub(super) ready_seconds: f64,
    /// From the first to the last packet of a client.
    pub(super) seconds: f64,
    pub(super) to_backends: Way,
    pub(super) to_clients: Way,
    pub(super) flows: Flows,
    /// Packets that arrived wrong, by fault.
    #[serde(serialize_with = "as_map")]
    pub(super) faults: Vec<(Fault, u64)>,
    pub(super) fault_examples: Vec<String>,
    pub(super) refusals: u64,
    pub(super) other_frames: u64,
    pub(super) leaked_buffers: u32,
    /// Ended by a signal before its time.
    pub(super) interrupted: bool,
}

/// One direction.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Way {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) reordered: u64,
    pub(super) packets_per_second: f64,
    /// Of frames without FCS.
    pub(super) bits_per_second: f64,
    pub(super) latency_micros: Latency,
}

#[derive(Debug, Serialize)]
pub(super) struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Flows {
    pub(super) opened: u64,
    /// Ended as they should, with every packet arrived.
    pub(super) completed: u64,
    /// Ended because something did not arrive.
    pub(super) given_up: u64,
}

impl Report {
    /// Whether packets went wrong: not merely lost, but to the wrong place or damaged or twice.
    fn is_faulty(&self) -> bool {
        let duplicates = self.to_backends.duplicates + self.to_clients.duplicates;
        !self.faults.is_empty() || duplicates > 0
    }

    fn lost(&self) -> u64 {
        self.to_backends.lost + self.to_clients.lost
    }

    /// Decides. Nothing sent is a failure as well: it would prove nothing.
    pub(super) fn judge(&mut self, require_zero_loss: bool) {
        let sent = self.to_backends.sent > 0 && self.to_clients.sent > 0;
        let lost = require_zero_loss && (self.lost() > 0 || self.flows.given_up > 0);
        self.passed = sent && !lost && !self.is_faulty() && self.leaked_buffers == 0;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:>10} {:>10} {:>8} {:>6} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8}  (us)",
            "",
            "sent",
            "received",
            "lost",
            "dup",
            "reorder",
            "pps",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max"
        )?;
        for (name, way) in [("to backends", &self.to_backends), ("to clients", &self.to_clients)] {
            let Latency { p50, p90, p99, p999, max } = way.latency_micros;
            let Way { sent, received, lost, duplicates, reordered, .. } = way;
            writeln!(
                f,
                "{name:<12} {sent:>10} {received:>10} {lost:>8} {duplicates:>6} {reordered:>9} {:>9.0} \
                 {p50:>8.1} {p90:>8.1} {p99:>8.1} {p999:>8.1} {max:>8.1}",
                way.packets_per_second
            )?;
        }
        let Flows { opened, completed, given_up } = self.flows;
        writeln!(
            f,
            "flows: {opened} opened, {completed} completed, {given_up} given up, in {:.1} s, ready after {:.1} s",
            self.seconds, self.ready_seconds
        )?;
        let (refusals, other) = (self.refusals, self.other_frames);
        writeln!(
            f,
            "refusals {refusals}, other frames {other}, buffers leaked {}",
            self.leaked_buffers
        )?;
        for (fault, count) in &self.faults {
            writeln!(f, "FAULT {fault:?}: {count}")?;
        }
        for example in &self.fault_examples {
            writeln!(f, "  {example}")?;
        }
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        write!(f, "{}{interrupted}", if self.passed { "passed" } else { "FAILED" })
    }
}

fn as_map<S: serde::Serializer>(faults: &[(Fault, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(faults.iter().map(|(fault, count)| (fault, count)))
}

fn micros(nanos: u64) -> f64 {
    whole(nanos) / 1000.0
}

fn ratio(cycles: u64, hz: u64) -> f64 {
    whole(cycles) / whole(hz.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "for people, and exact up to 2^53")]
fn whole(number: u64) -> f64 {
    number as f64
}
