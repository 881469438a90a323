//! The two devices, as one thing.

use super::super::Error;
use super::super::process::Process;
use super::cores::Thread;
use super::gateway::{Change, Counters, Gateway};
use super::generator::Effect;
use super::testpmd::Testpmd;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Testpmd,
    Vipgate,
}

impl Name {
    /// In the order in which they take turns.
    pub(super) const BOTH: [Self; 2] = [Self::Testpmd, Self::Vipgate];

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Testpmd => "testpmd",
            Self::Vipgate => "vipgate",
        }
    }
}

/// A device's process.
#[derive(Debug)]
pub(super) enum Device {
    Testpmd(Testpmd),
    Vipgate {
        gateway: Gateway,
        /// At the last look.
        counters: Box<Counters>,
        /// Cycles of its worker with packets, and packets, when it was last asked to forget.
        before: [u64; 2],
    },
}

impl Device {
    pub(super) fn vipgate(gateway: Gateway) -> Result<Self, Error> {
        let counters = Box::new(gateway.counters()?);
        Ok(Self::Vipgate { gateway, counters, before: [0; 2] })
    }

    pub(super) fn process(&self) -> &Process {
        match self {
            Self::Testpmd(testpmd) => &testpmd.process,
            Self::Vipgate { gateway, .. } => &gateway.process,
        }
    }

    /// What it does to frames.
    pub(super) fn effect(&self) -> Effect {
        match self {
            Self::Testpmd(_) => Effect::Reflects,
            Self::Vipgate { .. } => Effect::Translates,
        }
    }

    /// The thread that moves packets.
    pub(super) fn worker(&self) -> Result<Thread, Error> {
        let name = match self {
            // What DPDK calls it differs between releases.
            Self::Testpmd(_) => ["rte-worker", "lcore-worker", "dpdk-worker"].as_slice(),
            Self::Vipgate { .. } => &["worker-"],
        };
        let id = self.process().id();
        let missing = || self.process().fault("has no worker thread");
        name.iter().find_map(|prefix| Thread::named(id, prefix)).ok_or_else(missing)
    }

    /// What its counters have done since the last look; none when it has none.
    pub(super) fn count(&mut self) -> Result<Option<Change>, Error> {
        let Self::Vipgate { gateway, counters, .. } = self else { return Ok(None) };
        let now = gateway.counters()?;
        let change = now.since(counters);
        **counters = now;
        Ok(Some(change))
    }

    /// Begins to count cycles anew.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        match self {
            Self::Testpmd(testpmd) => testpmd.forget(),
            Self::Vipgate { gateway, before, .. } => {
                *before = [gateway.busy_cycles()?, gateway.counters()?.received];
                Ok(())
            }
        }
    }

    /// Cycles of its core a packet since then, polls that found none left out.
    pub(super) fn cycles_per_packet(&mut self) -> Result<f64, Error> {
        match self {
            Self::Testpmd(testpmd) => testpmd.cycles_per_packet(),
            Self::Vipgate { gateway, before: [cycles, packets], .. } => {
                let packets = gateway.counters()?.received - *packets;
                Ok((gateway.busy_cycles()? - *cycles) as f64 / packets as f64)
            }
        }
    }

    /// Ends it as an operator would.
    pub(super) fn end(self) -> Result<(), Error> {
        match self {
            Self::Testpmd(testpmd) => testpmd.end(),
            Self::Vipgate { gateway, .. } => {
                gateway.process.terminate()?;
                gateway.process.end()
            }
        }
    }
}
