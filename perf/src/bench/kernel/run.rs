//! Takes the gateways in turn: each gets the cables, is started, gets connections, is measured, and is checked.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::super::{Error, Progress};
use super::Options;
use super::dpdk::{self, Cores, Driver, Vipgate};
use super::linux::Linux;
use super::meter::Meter;
use super::namespace::Namespace;
use super::open::open;
use super::plan::{Cluster, Target};
use super::sender::{Sender, Sent};
use super::site::Site;

/// Caches are warm and buffers are where they will be after so long.
const WARM_UP: Duration = Duration::from_millis(100);
/// One in so many packets may get lost.
const TOLERANCE: u64 = 1000;

/// Programs that are run, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("chrt", "util-linux"),
    ("setpriv", "util-linux"),
    ("stdbuf", "coreutils"),
    ("awk", "mawk"),
    ("dpdk-testpmd", "dpdk-dev"),
];

/// Something that packets go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gateway {
    /// The kernel's forwarding, without rules or connection tracking.
    Forward,
    /// The kernel with kube-proxy's rules.
    Nftables(Cluster),
    /// DPDK's driver, without a gateway.
    Testpmd(Driver),
    Vipgate(Driver, Cluster),
}

/// One measurement of one gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Packets a second of the gateway's core.
    pub(super) packets_per_core: f64,
    /// Cycles of that core a packet.
    pub(super) cycles: f64,
    /// Share of the time that the core was busy.
    pub(super) busy: f64,
    /// Share of the time that the sender waited for the gateway.
    pub(super) waited: f64,
    /// vipgate's own cycles a packet: neither its driver's nor the kernel's.
    pub(super) own: Option<f64>,
}

/// What a run has found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// One sample a repetition.
    pub(super) gateways: Vec<(Gateway, Vec<Sample>)>,
    /// Seconds it took to load the rules of a cluster.
    pub(super) loads: Vec<(Cluster, f64)>,
}

/// Everything that stands ready.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    options: &'a Options,
    cores: Cores,
    forward: Linux,
    nftables: Vec<(Cluster, Linux)>,
    dpdk: Namespace,
    vipgate: PathBuf,
    site: Site,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        options: &'a Options,
        clusters: &[Cluster],
        progress: &Progress,
    ) -> Result<Self, Error> {
        let vipgate = requirements()?;
        let cores = cores()?;
        let site = Site::new(cores.gateway)?;
        let mut nftables = Vec::new();
        for &cluster in clusters {
            progress.step(format!("loading rules for {} Services", cluster.services));
            nftables.push((cluster, Linux::new(&site, Some(cluster))?));
        }
        let forward = Linux::new(&site, None)?;
        let dpdk = site.gateway("dpdk")?;
        Ok(Self { options, cores, forward, nftables, dpdk, vipgate, site })
    }

    pub(super) fn run(mut self, progress: &Progress) -> Result<Outcome, Error> {
        let order = self.order();
        let repetitions = self.options.repetitions();
        let loads = self.nftables.len() as u64;
        progress.steps(loads + order.len() as u64 * u64::from(repetitions));
        let loads = self.nftables.iter().map(|(cluster, linux)| (*cluster, linux.load_seconds));
        let mut outcome = Outcome {
            gateways: order.iter().map(|&gateway| (gateway, Vec::new())).collect(),
            loads: loads.collect(),
        };
        for repetition in 1..=repetitions {
            for (gateway, samples) in &mut outcome.gateways {
                progress.step(format!("{} ({repetition} of {repetitions})", gateway.name()));
                let sample = self.measure(*gateway);
                let named = |Error(error)| Error(format!("{}: {error}", gateway.name()));
                samples.push(sample.map_err(named)?);
            }
        }
        Ok(outcome)
    }

    /// Who is held against whom comes right after it.
    fn order(&self) -> Vec<Gateway> {
        let mut order = vec![Gateway::Forward, Gateway::Testpmd(Driver::AfXdp)];
        for &(cluster, _) in &self.nftables {
            order.push(Gateway::Nftables(cluster));
            order.push(Gateway::Vipgate(Driver::AfXdp, cluster));
        }
        let cluster = self.nftables.last().map(|(cluster, _)| *cluster);
        order.push(Gateway::Testpmd(Driver::AfPacket));
        order.extend(cluster.map(|cluster| Gateway::Vipgate(Driver::AfPacket, cluster)));
        let wanted = |name: &str| self.options.case.as_ref().is_none_or(|text| name.contains(text));
        order.retain(|gateway| wanted(&gateway.name()));
        order
    }

    fn measure(&mut self, gateway: Gateway) -> Result<Sample, Error> {
        match gateway {
            Gateway::Forward => {
                self.site.attach(&self.forward.namespace)?;
                self.forward.configure(&self.site)?;
                self.traffic(Target::Endpoints, || Ok(()), |(), _| Ok(None))
            }
            Gateway::Nftables(cluster) => {
                let linux = self.nftables.iter().find(|(of, _)| *of == cluster);
                let Some((_, linux)) = linux else { return Err(Error("is not there".into())) };
                self.site.attach(&linux.namespace)?;
                linux.configure(&self.site)?;
                let check = |(), _| {
                    let tracked = linux.connections()?;
                    let flows = u64::from(self.options.flows);
                    if tracked >= flows {
                        return Ok(None);
                    }
                    Err(Error(format!("the kernel tracks {tracked} connections of {flows}")))
                };
                self.traffic(Target::Services(cluster), || Ok(()), check)
            }
            Gateway::Testpmd(driver) => {
                self.site.attach(&self.dpdk)?;
                driver.silence_kernel(&self.site, &self.dpdk)?;
                let _process = dpdk::testpmd(&self.site, &self.dpdk, driver, self.cores)?;
                self.traffic(Target::Endpoints, || Ok(()), |(), _| Ok(None))
            }
            Gateway::Vipgate(driver, cluster) => {
                self.site.attach(&self.dpdk)?;
                driver.silence_kernel(&self.site, &self.dpdk)?;
                let Self { site, dpdk, vipgate, cores, .. } = self;
                let vipgate = Vipgate::start(site, dpdk, vipgate, driver, cluster, *cores)?;
                let check = |before, sent| {
                    vipgate.check(sent, u64::from(self.options.flows))?;
                    Ok(Some(vipgate.own()?.since(before)))
                };
                self.traffic(Target::Services(cluster), || vipgate.own(), check)
            }
        }
    }

    /// Opens connections, sends, and holds all counters against each other; `check` is given what `begin` has said
    /// when all connections were open, and how many packets the gateway has forwarded to the node, and says what the
    /// gateway itself took a packet.
    fn traffic<T>(
        &self,
        target: Target,
        begin: impl FnOnce() -> Result<T, Error>,
        check: impl FnOnce(T, u64) -> Result<Option<f64>, Error>,
    ) -> Result<Sample, Error> {
        let Self { site, options, cores, .. } = self;
        site.bind_receiver()?;
        let before = site.translated()?;
        open(site, options.flows, target)?;
        let opened = site.translated()? - before;
        let begun = begin()?;
        let mut sender = Sender::new(site, options.flows, target)?;
        let meter = Meter::start(cores.gateway)?;
        let warm = sender.run(cores.others, WARM_UP, &meter)?;
        let time = Duration::from_secs_f64(options.seconds);
        let sent = sender.run(cores.others, time, &meter)?;
        let lost = warm.lost + sent.lost;
        let all = warm.packets + sent.packets;
        let translated = site.translated()? - before - opened;
        if lost > all / TOLERANCE || translated + lost != all {
            return Err(Error(format!(
                "{all} packets were sent, {translated} came to an endpoint, {lost} nowhere"
            )));
        }
        let own = check(begun, opened + translated)?;
        Ok(Sample { own, ..sample(&sent) })
    }
}

impl Gateway {
    /// As in a measurement's case.
    pub(super) fn name(self) -> String {
        match self {
            Self::Forward => "forward".into(),
            Self::Nftables(cluster) => format!("nftables/{}", cluster.name()),
            Self::Testpmd(driver) => format!("testpmd/{}", driver.name()),
            Self::Vipgate(driver, cluster) => {
                format!("vipgate/{}/{}", driver.name(), cluster.name())
            }
        }
    }
}

fn sample(sent: &Sent) -> Sample {
    let Sent { arrived, seconds, waited, gateway, .. } = *sent;
    #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 packets")]
    let per_second = arrived as f64 / seconds;
    Sample {
        packets_per_core: per_second / gateway.busy,
        cycles: gateway.hz * gateway.busy / per_second,
        busy: gateway.busy,
        waited,
        own: None,
    }
}

/// What the suite needs; the program to measure.
fn requirements() -> Result<PathBuf, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error("needs network namespaces and packet sockets: run it as root".into()));
    }
    for (program, package) in PROGRAMS {
        let found =
            Command::new("sh").args(["-c", "command -v \"$0\" > /dev/null", program]).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(Error(format!("`{program}` is missing: apt-get install {package}")));
        }
    }
    let vipgate = std::env::current_exe().map(|perf| perf.with_file_name("vipgate"));
    vipgate.ok().filter(|program| program.exists()).ok_or_else(|| {
        Error("vipgate is not beside perf: cargo build --release --bin vipgate".into())
    })
}

/// The last core for the gateway, the first one for everything else.
fn cores() -> Result<Cores, Error> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    match cores.as_slice() {
        [others, .., gateway] => Ok(Cores { gateway: gateway.id, others: others.id }),
        _ => Err(Error("needs two cores: one for the gateway, one for its clients".into())),
    }
}
