//! `perf traffic`: clients and backends around a running gateway, over vhost-user.
//!
//! Job: prove that the gateway forwards what it should, where it should, unharmed, and measure how long it takes.
//! This file starts DPDK and the ports, drives the [`Generator`], and gives everything back; the generator itself knows
//! neither DPDK nor the system. One thread does everything, so all timestamps are of one clock.
//!
//! Checksums on the wire are complete in both directions: no offload is asked for on this side (`tso=0`, no receive
//! checksum flags), and the peer asks for none either.

mod arrival;
mod flow;
mod frame;
mod generator;
mod link;
mod neighbor;
mod options;
mod pace;
mod plan;
mod probe;
mod report;
mod signals;
mod tag;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dataplane::nic::Nic;
use vipgate::dpdk::{
    Eal, EalConfig, Mbuf, Memory, Mempool, PoolConfig, Port, PortConfig, QueuePair, cycles,
};

use generator::{Generator, Stage, Times};
use link::Link;
use neighbor::Neighbors;
pub(crate) use options::Options;
use plan::Plan;
use report::{Report, Tally};
use signals::Signals;

type Error = Box<dyn std::error::Error>;

/// Rings of both ports hold some, the rest is on its way.
const BUFFERS: u32 = 16_383;
const MEMORY_MIB: u32 = 256;
/// Polls between two looks at signals and the clock for people.
const POLLS: u32 = 256;
/// How long to rest when there was nothing to do.
const REST: Duration = Duration::from_micros(20);

/// Runs from start to report.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Error> {
    let plan = options.plan()?;
    let mut signals = Signals::catch()?;
    let eal = start_dpdk(options)?;
    let core = options.core.map(|id| core_affinity::CoreId { id });
    if core.is_some_and(|core| !core_affinity::set_for_current(core)) {
        return Err("cannot run on that --core".into());
    }
    let config =
        PoolConfig { name: "packets".into(), mbufs: BUFFERS, cache: 256, mtu: 1500, socket: None };
    let pool = Mempool::create(&eal, config)?;
    let (mut ports, links) = open_ports(&eal, &pool, options, &plan)?;

    let times = times(options, eal.tsc_hz());
    let make = |bytes: &[u8]| pool.frame(bytes);
    let mut generator = Generator::new(plan, links, times, make, cycles());
    let interrupted = drive(&mut generator, &mut signals, options.busy, times.hz);
    if let Stage::NotReady(reason) = &generator.stage {
        return Err(format!("the gateway is not ready: {reason}").into());
    }

    // The queue pairs go with the generator; only then can ports stop, and only then are all buffers back.
    let tally = generator.into_tally();
    for port in &mut ports {
        port.stop()?;
    }
    drop(ports);
    let mut report = tally.report(pool.in_use());
    report.interrupted = interrupted;
    report.judge(options.require_zero_loss);
    publish(&report, options.json.as_deref())?;
    Ok(if report.passed && !interrupted { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn start_dpdk(options: &Options) -> Result<Eal, Error> {
    for socket in &options.sockets {
        remove_stale(socket)?;
    }
    let (queues, sockets) = (options.queues, options.sockets.iter().enumerate());
    let vdevs = sockets.map(|(number, socket)| {
        format!("{},iface={},queues={queues},tso=0", name(number), socket.display())
    });
    let memory = match options.no_huge {
        true => Memory::Ordinary { mib: MEMORY_MIB },
        false => Memory::Huge { mib: Some(MEMORY_MIB) },
    };
    let config = EalConfig {
        memory,
        file_prefix: Some(format!("perf-{}", std::process::id())),
        vdevs: vdevs.collect(),
        main_core: options.core,
        ..EalConfig::default()
    };
    Ok(Eal::init(&config)?)
}

/// A server that was killed leaves its socket behind, and the next one could not take the name.
fn remove_stale(socket: &Path) -> Result<(), Error> {
    let Ok(metadata) = std::fs::symlink_metadata(socket) else { return Ok(()) };
    if !metadata.file_type().is_socket() || UnixStream::connect(socket).is_ok() {
        return Err(format!("{} is in use", socket.display()).into());
    }
    Ok(std::fs::remove_file(socket)?)
}

fn open_ports(
    eal: &Eal,
    pool: &Arc<Mempool>,
    options: &Options,
    plan: &Plan,
) -> Result<(Vec<Port>, Vec<Link<QueuePair>>), Error> {
    let [clients, backends] = plan.own();
    let first_backend = plan.backends[0].0;
    let sides = if options.sockets.len() == 1 {
        vec![(clients.union(&backends).copied().collect(), plan.router, plan.gateways[0])]
    } else {
        vec![(clients, plan.router, plan.gateways[0]), (backends, first_backend, plan.gateways[1])]
    };
    let (mut ports, mut links) = (Vec::new(), Vec::new());
    for (number, (own, asker, gateway)) in sides.into_iter().enumerate() {
        let mut port = Port::open(eal, &name(number))?;
        let config = PortConfig { queue_pairs: options.queues, ..PortConfig::default() };
        port.configure(&config, pool)?;
        let queues = port.start()?;
        let mut neighbors = Neighbors::new(port.mac()?, own, asker, gateway);
        if let Some(mac) = options.gateway_mac {
            neighbors.set_gateway_mac(mac);
        }
        links.push(Link::new(queues, neighbors));
        ports.push(port);
    }
    Ok((ports, links))
}

fn name(port: usize) -> String {
    format!("net_vhost{port}")
}

fn times(options: &Options, hz: u64) -> Times {
    let cycles = |seconds| pace::cycles(seconds, hz);
    Times {
        hz,
        ready: cycles(options.warm_up),
        run: cycles(options.duration),
        patience: cycles(options.patience),
    }
}

/// Polls until it is over. The first signal ends the run in order, the second at once; true when there was one.
fn drive<M>(
    generator: &mut Generator<QueuePair, M>,
    signals: &mut Signals,
    busy: bool,
    hz: u64,
) -> bool
where
    M: FnMut(&[u8]) -> Option<Mbuf>,
{
    let mut progress = Progress::new(hz);
    let mut seen = 0;
    loop {
        for _ in 0..POLLS {
            if !generator.poll(cycles()) && !busy {
                std::thread::sleep(REST);
            }
            if generator.is_over() {
                progress.clear();
                return seen > 0;
            }
        }
        for _ in 0..signals.pending() {
            seen += 1;
            generator.interrupt(cycles());
        }
        if seen > 1 {
            return true;
        }
        progress.show(generator, cycles());
    }
}

/// A line that says where the run is, once a second, for people.
struct Progress {
    hz: u64,
    next: u64,
    enabled: bool,
}

impl Progress {
    fn new(hz: u64) -> Self {
        Self { hz, next: 0, enabled: std::io::stderr().is_terminal() }
    }

    fn show<N: Nic, M>(&mut self, generator: &Generator<N, M>, now: u64) {
        if !self.enabled || now < self.next {
            return;
        }
        self.next = now + self.hz;
        let Tally { sides: [forward, reverse], .. } = &generator.tally;
        let missing = generator.tally.missing();
        let stage = match generator.stage {
            Stage::Resolving => "waiting for the gateway",
            Stage::Probing => "probing",
            Stage::Running { .. } => "running",
            _ => "ending",
        };
        eprint!(
            "\r\x1b[K{stage}: {} to backends, {} to clients, {missing} on the way or lost",
            forward.received, reverse.received
        );
        drop(std::io::stderr().flush());
    }

    fn clear(&self) {
        if self.enabled {
            eprint!("\r\x1b[K");
        }
    }
}

fn publish(report: &Report, json: Option<&Path>) -> Result<(), Error> {
    println!("{report}");
    if let Some(path) = json {
        let mut text = serde_json::to_string_pretty(report)?;
        text.push('\n');
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}
