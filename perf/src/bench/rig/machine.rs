//! The core to measure on, the memory for tables, the packet buffers.
//!
//! Tables and packets lie in huge pages, as in production. The machine need not have reserved any: root can add them for
//! as long as this process runs. They are reserved only until DPDK has mapped them; from then on the kernel counts
//! them as surplus and takes them back by itself when the process ends, however it ends.

use std::fs;
use std::ops::Deref;
use std::sync::Arc;

use core_affinity::CoreId;
use dataplane::conntrack::{self, ConntrackConfig};
use dataplane::nic::Frame;
use vipgate::dpdk::{Eal, EalConfig, HugeMemory, Mbuf, Memory, Mempool, PoolConfig};

use crate::bench::Error;
use crate::report::Measurement;

/// What DPDK itself takes, the packet buffers of a suite, and room for fragmentation, in MiB.
const BASE_MIB: u64 = 96;
/// Largest frame that is sent, without FCS.
pub(crate) const LARGEST: usize = 1514;

/// EAL and what kind of memory it has.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) eal: Eal,
    pool: Arc<Mempool>,
    huge: bool,
}

/// Zeroed memory of the size of a connection table.
#[derive(Debug)]
pub(crate) enum Table {
    Huge(HugeMemory),
    Ordinary(Vec<u8>),
}

impl Machine {
    /// Starts EAL with room for tables of `bytes` and for `buffers` packets, and pins the calling thread to `core`, or
    /// to the last one there is: the first serves most interrupts.
    pub(crate) fn start(core: Option<usize>, bytes: usize, buffers: usize) -> Result<Self, Error> {
        let cores: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let core = match core {
            None => *cores.last().ok_or_else(|| Error("no core is allowed".into()))?,
            Some(core) if cores.contains(&core) => core,
            Some(core) => {
                return Err(Error(format!("--core {core}: not allowed; allowed are {cores:?}")));
            }
        };
        let mib = BASE_MIB + (bytes as u64).div_ceil(1 << 20);
        let added = Pages::add(mib);
        let huge = free_pages() * 2 >= mib;
        let size = |mib: u64| u32::try_from(mib).unwrap_or(u32::MAX);
        let memory = if huge {
            Memory::Huge { mib: Some(size(mib)) }
        } else {
            Memory::Ordinary { mib: size(BASE_MIB) }
        };
        let eal = Eal::init(&EalConfig { memory, main_core: Some(core), ..EalConfig::default() });
        drop(added);
        let eal = eal.map_err(failed)?;
        core_affinity::set_for_current(CoreId { id: core });
        let pool = PoolConfig {
            name: "packets".into(),
            mbufs: size(buffers as u64),
            cache: 0,
            mtu: 1500,
            socket: None,
        };
        let pool = Mempool::create(&eal, pool).map_err(failed)?;
        Ok(Self { eal, pool, huge })
    }

    /// Adds what is to be said about every figure of this machine, if anything.
    pub(crate) fn noted(&self, told: Vec<Measurement>) -> Vec<Measurement> {
        const ORDINARY: &str = "ordinary pages instead of huge ones: slower with many connections";
        let noted = |measurement: Measurement| match &measurement.note {
            _ if self.huge => measurement,
            None => measurement.note(ORDINARY),
            Some(note) => {
                let both = format!("{note}; {ORDINARY}");
                measurement.note(both)
            }
        };
        told.into_iter().map(noted).collect()
    }

    /// Memory for a worker's connection table.
    pub(crate) fn conntrack(&self, config: &ConntrackConfig) -> Result<conntrack::Memory, Error> {
        if !self.huge {
            return Ok(config.plain_memory());
        }
        let (v4, v6) = config.bytes();
        let allocate = |len| HugeMemory::allocate(&self.eal, len, None).map(HugeMemory::leak);
        Ok(conntrack::Memory {
            v4: allocate(v4).map_err(failed)?,
            v6: allocate(v6).map_err(failed)?,
        })
    }

    /// The same, for something else.
    pub(crate) fn table(&self, bytes: usize) -> Result<Table, Error> {
        if !self.huge {
            return Ok(Table::Ordinary(vec![0; bytes]));
        }
        HugeMemory::allocate(&self.eal, bytes, None).map(Table::Huge).map_err(failed)
    }

    /// Packets of the largest size, all zeros.
    pub(crate) fn frames(&self, count: usize) -> Result<Vec<Mbuf>, Error> {
        let zeros = [0; LARGEST];
        let frames = (0..count).map(|_| self.pool.frame(&zeros));
        let frames: Option<Vec<Mbuf>> = frames.collect();
        frames.ok_or_else(|| Error(format!("the pool of {} buffers is empty", self.pool.size())))
    }

    /// Cycles to nanoseconds.
    pub(crate) fn nanoseconds(&self, cycles: f64) -> f64 {
        cycles * 1e9 / self.hz()
    }

    /// Cycles in a second.
    pub(crate) fn hz(&self) -> f64 {
        self.eal.tsc_hz() as f64
    }
}

impl Deref for Table {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Huge(memory) => memory,
            Self::Ordinary(memory) => memory,
        }
    }
}

/// Sets every byte of the frames to zero, at the largest size.
pub(crate) fn clean(frames: &mut [Mbuf]) {
    for frame in frames {
        assert!(frame.set_len(LARGEST), "a buffer holds the largest frame");
        frame.bytes_mut().fill(0);
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error(error.to_string())
}

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Huge pages added to the machine's; given back when dropped.
struct Pages(u64);

impl Pages {
    /// Adds what lacks for `mib` to be free, if this process may and the memory is there.
    fn add(mib: u64) -> Self {
        let lacking = mib.div_ceil(2).saturating_sub(free_pages());
        let before = number("nr_hugepages");
        if lacking == 0 || fs::write(path("nr_hugepages"), (before + lacking).to_string()).is_err()
        {
            return Self(0);
        }
        Self(number("nr_hugepages").saturating_sub(before))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.0 > 0 {
            let rest = number("nr_hugepages").saturating_sub(self.0);
            // If this fails the pages stay reserved, which is a pity and no more.
            let _ = fs::write(path("nr_hugepages"), rest.to_string());
        }
    }
}

fn free_pages() -> u64 {
    number("free_hugepages")
}

fn number(file: &str) -> u64 {
    fs::read_to_string(path(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

fn path(file: &str) -> String {
    format!("{POOL}/{file}")
}
