//! The client's traffic: as much as the gateway forwards, and never more.
//!
//! A window bounds the packets between the client and the node. So no queue on the way overflows, nothing is lost, and
//! a gateway is busy with forwarding alone: when more comes than they can take, Linux and packet sockets spend a core on
//! packets that they drop. The sender sees what has arrived in the counters of the node's device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;

use super::super::Error;
use super::frames::{self, Bytes};
use super::meter::{Meter, Use};
use super::open::ends;
use super::plan::{CLIENT_MAC, OUTSIDE_MAC, Target};
use super::site::{FAR_END, Site};
use super::socket::Socket;

const BURST: u64 = 64;
/// Packets on their way at most. The queue of a veth holds 256.
const WINDOW: u64 = 3 * BURST;
/// Packets that have not arrived for so long are lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// A sender on a core of its own.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Socket,
    arrivals: Arrivals,
    frames: Vec<Bytes>,
    next: usize,
}

/// What was sent in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) lost: u64,
    /// From the first packet until `arrived` packets had arrived.
    pub(super) seconds: f64,
    pub(super) arrived: u64,
    /// Share of the time that the sender waited for the gateway.
    pub(super) waited: f64,
    /// The gateway's core in that time.
    pub(super) gateway: Use,
}

/// Counts what arrives at the node, translated or not.
#[derive(Debug)]
struct Arrivals(File);

impl Sender {
    /// For a number of flows to a target.
    pub(super) fn new(site: &Site, flows: u16, target: Target) -> Result<Self, Error> {
        let failed = |error: io::Error| Error(format!("cannot send: {error}"));
        let frame = |flow| frames::build(CLIENT_MAC, OUTSIDE_MAC, ends(flow, target));
        Ok(Self {
            socket: Socket::sender(&site.client).map_err(failed)?,
            arrivals: Arrivals::at(site).map_err(failed)?,
            frames: (0..flows).map(frame).collect(),
            next: 0,
        })
    }

    /// Sends for some time, on a core, then waits for the last packets.
    pub(super) fn run(
        &mut self,
        core: usize,
        time: Duration,
        meter: &Meter,
    ) -> Result<Sent, Error> {
        let sending = || {
            core_affinity::set_for_current(CoreId { id: core });
            self.send(time, meter)
        };
        let sent = thread::scope(|scope| scope.spawn(sending).join());
        let sent = sent.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        sent.map_err(|error| Error(format!("cannot send: {error}")))
    }

    fn send(&mut self, time: Duration, meter: &Meter) -> io::Result<Sent> {
        let mut sent = Sent::default();
        let before = self.arrivals.count()?;
        let (begin, reading) = (Instant::now(), meter.read());
        let mut progress = begin;
        let mut waited = Duration::ZERO;
        loop {
            let now = Instant::now();
            if now - begin >= time {
                sent.seconds = (now - begin).as_secs_f64();
                sent.arrived = self.arrivals.count()? - before;
                sent.gateway = reading.to(meter.read());
                break;
            }
            if sent.packets + BURST <= sent.arrived + sent.lost + WINDOW {
                sent.packets += self.burst()?;
                continue;
            }
            let arrived = self.arrivals.count()? - before;
            if arrived > sent.arrived {
                (sent.arrived, progress) = (arrived, now);
            } else if now - progress > PATIENCE {
                (sent.lost, progress) = (sent.packets - sent.arrived, now);
            }
            if sent.packets + BURST > sent.arrived + sent.lost + WINDOW {
                // The kernel's own threads need this core, too.
                thread::yield_now();
                waited += now.elapsed();
            }
        }
        sent.waited = waited.as_secs_f64() / sent.seconds;
        let end = Instant::now();
        while self.arrivals.count()? - before < sent.packets && end.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        sent.lost = sent.packets - (self.arrivals.count()? - before).min(sent.packets);
        Ok(sent)
    }

    /// The next packets, in turn; how many there was room for.
    fn burst(&mut self) -> io::Result<u64> {
        for count in 0..BURST {
            if !self.socket.send(&self.frames[self.next])? {
                return Ok(count);
            }
            self.next = (self.next + 1) % self.frames.len();
        }
        Ok(BURST)
    }
}

impl Arrivals {
    fn at(site: &Site) -> io::Result<Self> {
        site.node.run(|| File::open("/proc/thread-self/net/dev")).map(Self)
    }

    fn count(&self) -> io::Result<u64> {
        let mut buffer = [0; 1024];
        let len = self.0.read_at(&mut buffer, 0)?;
        let text = String::from_utf8_lossy(&buffer[..len]);
        received(&text).ok_or_else(|| io::Error::other("the node's device is not in /proc/net/dev"))
    }
}

/// The packets that the far end has received.
fn received(table: &str) -> Option<u64> {
    let (_, line) = table.split_once(&format!("{FAR_END}:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_counts_packets() {
        let table = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs
    lo:       0       0    0    0    0     0          0         0        0       0    0
  eth0: 6000  100    0    0    0     0          0         0        1       2    0
";
        assert_eq!(received(table), Some(100));
        assert_eq!(received("lo: 1 2"), None);
    }
}
