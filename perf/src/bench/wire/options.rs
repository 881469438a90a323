//! The command line of `perf wire`.

use std::env;
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;

use super::super::Error;
use super::frames::MOST_FLOWS;
use super::gateway::{self, Place};
use super::lab;
use super::search::Goal;
use super::testpmd;

/// How the `wire` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// A shorter run: the smallest number of connections only, measured once with short trials
    #[arg(long)]
    quick: bool,

    /// The vipgate to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    vipgate: Option<PathBuf>,

    /// The testpmd to compare with
    #[arg(long, value_name = "FILE", default_value = "dpdk-testpmd")]
    testpmd: PathBuf,

    /// Numbers of connections, in ascending order
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,1000000",
        value_parser = RangedU64ValueParser::<u32>::new().range(1..=u64::from(MOST_FLOWS))
    )]
    connections: Vec<u32>,

    /// How often each device is measured, in turns
    #[arg(long, default_value_t = 3, value_parser = RangedU64ValueParser::<u32>::new().range(1..=99))]
    repeats: u32,

    /// Length of a trial, in seconds
    #[arg(long, default_value_t = 0.1, value_name = "SECONDS", value_parser = seconds)]
    trial: f64,

    /// Most trials of a load; more than half of them must lose nothing
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<u32>::new().range(1..=99))]
    trials: u32,

    /// How exactly to search for the zero-loss rate, in percent of it
    #[arg(long, default_value_t = 1.0, value_name = "PERCENT", value_parser = percent)]
    width: f64,

    /// The core of the generator, which vipgate's control thread shares
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    generator_core: usize,

    /// The core of the devices: of vipgate's worker and of testpmd's
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    device_core: usize,

    /// Entries of each ring between the generator and a device (a power of two)
    #[arg(long, default_value_t = 1024, value_parser = RangedU64ValueParser::<u16>::new().range(256..=32_768))]
    ring: u16,

    /// More arguments of both devices' net_virtio_user, as in packed_vq=1,in_order=1
    #[arg(long, value_name = "ARGUMENTS")]
    virtio: Option<String>,
}

/// What a run needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) vipgate: PathBuf,
    pub(super) testpmd: PathBuf,
    pub(super) connections: Vec<u32>,
    pub(super) repeats: u32,
    pub(super) goal: Goal,
    /// Length of a trial, and of one that takes latencies, in seconds.
    pub(super) trial: f64,
    pub(super) timed_trial: f64,
    pub(super) generator_core: usize,
    pub(super) device_core: usize,
    pub(super) ring: u16,
    pub(super) virtio: Option<String>,
}

impl Options {
    /// The settings; an error names what this machine lacks.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        for core in [self.generator_core, self.device_core] {
            if !cores.iter().any(|id| id.id == core) {
                return Err(Error(format!(
                    "core {core} is not usable here: the suite needs two cores, see --generator-core and --device-core"
                )));
            }
        }
        if self.generator_core == self.device_core {
            return Err(Error("--generator-core and --device-core must differ".into()));
        }
        if !self.ring.is_power_of_two() {
            return Err(Error(format!("--ring {}: expected a power of two", self.ring)));
        }
        let quick = |short, long| if self.quick { short } else { long };
        let fewest = self.connections.iter().min().copied();
        Ok(Settings {
            vipgate: self.vipgate()?,
            testpmd: find_testpmd(&self.testpmd)?,
            connections: if self.quick {
                fewest.into_iter().collect()
            } else {
                self.connections.clone()
            },
            repeats: if self.quick { 1 } else { self.repeats },
            goal: Goal { trials: self.trials, width: self.width / 100.0 },
            trial: quick(0.05_f64.min(self.trial), self.trial),
            timed_trial: 0.25,
            generator_core: self.generator_core,
            device_core: self.device_core,
            ring: self.ring,
            virtio: self.virtio.clone(),
        })
    }

    fn vipgate(&self) -> Result<PathBuf, Error> {
        let beside = || Some(env::current_exe().ok()?.parent()?.join("vipgate"));
        let file = self.vipgate.clone().or_else(beside).unwrap_or_default();
        match file.is_file() {
            true => Ok(file),
            false => Err(Error(format!(
                "there is no {}: build it with `cargo build --release --bin vipgate`, or name it with --vipgate",
                file.display()
            ))),
        }
    }
}

impl Settings {
    /// Where and with what both devices run.
    pub(super) fn place<'a>(&'a self, folder: &'a Path, socket: &'a Path) -> Place<'a> {
        Place {
            folder,
            socket,
            virtio: self.virtio.as_deref(),
            ring: self.ring,
            cores: [self.device_core, self.generator_core],
            connections: self.room(),
        }
    }

    /// Huge pages for the generator, testpmd and vipgate.
    pub(super) fn memory_mib(&self) -> u32 {
        lab::MIB + testpmd::MIB + gateway::memory_mib(self.room(), self.ring)
    }

    /// Connections that vipgate has room for: a fourth more than are opened.
    fn room(&self) -> u32 {
        let most = self.connections.iter().max().copied().unwrap_or(0);
        (most + most / 4).max(1000)
    }
}

/// A name without a folder is looked for on the PATH.
fn find_testpmd(name: &Path) -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut files = env::split_paths(&path).map(|folder| folder.join(name));
    files.find(|file| file.is_file()).ok_or_else(|| {
        Error(format!(
            "there is no {}: install it (Debian package `dpdk`), or name it with --testpmd",
            name.display()
        ))
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.01..=60.0).contains(number));
    number.ok_or_else(|| "expected seconds, from 0.01 to 60".into())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.1..=50.0).contains(number));
    number.ok_or_else(|| "expected percent, from 0.1 to 50".into())
}
