//! The configuration: one YAML file, read once, refused as a whole when anything in it is wrong.
//!
//! [`Config::parse`] goes in two steps. The shape (`file`) is read by serde: an unknown key, a list where one value
//! belongs or broken YAML end the reading at once. The values (`check`) are then read one by one, so that all bad ones
//! are reported together. Every error says where it is ([`ConfigError`]), what is allowed and, when something similar
//! exists, what was probably meant.
//!
//! What depends on the machine (cores, devices, files) is not looked at here: a file can be checked on any machine.
//! Every key with its type, default and meaning is listed in `docs/configuration.md`.

mod check;
mod error;
mod file;
mod value;

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use dataplane::fib::MssClamp;
use dataplane::rss::Ends;
use hickory_resolver::proto::rr::Name;
use ipnet::IpNet;

pub use dataplane::conntrack::state::Timeouts;
pub use error::{ConfigError, ConfigErrors};

use crate::settings::Settings;

/// A configuration without mistakes: defaults are filled in, values are in their ranges.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from, for messages.
    pub file: String,
    /// The ports, in order of port ids.
    pub ports: Vec<Port>,
    /// Threads that move packets.
    pub workers: Workers,
    /// Memory for packets and connections.
    pub memory: Memory,
    /// Connection tables.
    pub conntrack: Conntrack,
    /// Source addresses and ports of masqueraded connections.
    pub masquerade: Masquerade,
    /// Where Services come from; [`Config::require_runnable`] makes sure there is one.
    pub source: Option<Source>,
    /// What this node is to its Services.
    pub services: Settings,
    /// Address of `/metrics`, `/livez` and `/readyz`.
    pub http: SocketAddr,
    /// The DNS server; none unless given.
    pub dns: Option<Dns>,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// Key of backend choice; equal on all gateways that share VIPs.
    pub fleet_seed: u64,
    /// Log output.
    pub log: Log,
}

/// A NIC and its kernel twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name in status, metrics and logs.
    pub name: String,
    /// The device.
    pub device: Device,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// The largest TCP segments that connections through the port may agree on.
    pub mss_clamp: Option<MssClamp>,
    /// What the NIC chooses a packet's queue by, with several workers.
    pub rss: Ends,
    /// Receive and transmit descriptors per queue.
    pub descriptors: u16,
    /// Addresses the kernel twin gets, with the length of their network.
    pub addresses: Vec<IpNet>,
    /// Routes through this port.
    pub routes: Vec<PortRoute>,
    /// Name of the kernel twin (a TAP device).
    pub twin: String,
    /// VIPs inside are answered by ARP and neighbour discovery on this port.
    pub announce: Vec<IpNet>,
}

/// How DPDK finds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// PCI address, `DDDD:BB:DD.F` in lower case.
    Pci(String),
    /// Virtual device with its arguments, as EAL's `--vdev` takes them.
    Vdev(String),
}

/// A static route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRoute {
    /// Destinations.
    pub to: IpNet,
    /// Next hop, of the same family.
    pub via: IpAddr,
}

/// Threads that move packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workers {
    /// One worker a core; `None` is every core but the control core.
    pub cores: Option<Vec<usize>>,
    /// Core of the control thread; `None` is the first core that no worker has, if there is one.
    pub main_core: Option<usize>,
    /// What a worker does when no packet comes.
    pub idle: Idle,
}

/// What a worker does when no packet comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: lowest latency, the core is always at 100 %.
    Busy,
    /// Polls on with the CPU's pause instruction in between: kinder to the hyper-thread sibling.
    Pause,
    /// Sleeps for microseconds after many empty polls.
    #[default]
    Sleep,
}

/// Memory for packets and connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Whether huge pages are used.
    pub huge_pages: HugePages,
    /// MiB to reserve; `None` is what packets and connection tables need.
    pub size_mib: Option<u32>,
}

/// Whether huge pages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// When the kernel has enough free ones.
    #[default]
    Auto,
    /// Always; without them vipgate does not start.
    Required,
    /// Never.
    Off,
}

/// Connection tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// IPv4 connections a worker has room for.
    pub connections: u32,
    /// IPv6 connections a worker has room for.
    pub connections_v6: u32,
    /// Clients of Services with affinity remembered at a time, by all workers together.
    pub affinity_clients: u32,
    /// How long silent connections are kept.
    pub timeouts: Timeouts,
}

/// Source addresses and ports of masqueraded connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerade {
    /// The pool; families without an address in it use the egress port's address.
    pub addresses: Vec<IpAddr>,
    /// Source ports, split among the workers.
    pub ports: RangeInclusive<u16>,
}

/// Where Services come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// YAML files.
    Manifests {
        /// A file or a directory.
        path: PathBuf,
    },
    /// A cluster's API server. With neither field the process runs inside that cluster, as a pod.
    Kubernetes {
        /// The kubeconfig; `None` with a context is the default one.
        kubeconfig: Option<PathBuf>,
        /// A context of the kubeconfig; `None` is its current one.
        context: Option<String>,
    },
}

/// The DNS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Where it listens, over UDP and TCP; at least one.
    pub addresses: Vec<SocketAddr>,
    /// The cluster's zone, fully qualified.
    pub zone: Name,
    /// How long clients may remember its answers, in seconds.
    pub ttl: u32,
    /// Servers that other names are asked of.
    pub upstreams: Vec<SocketAddr>,
}

/// Log output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Form of a line.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: tracing::Level,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads a file. Errors when it can't be read, or as [`Self::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => Err(ConfigError::in_file(&name, format!("cannot read: {error}")).into()),
        }
    }

    /// Reads a configuration from its text; `name` stands for the file in messages. Errors name every bad value; an
    /// error of the YAML itself or an unknown key comes alone.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigErrors> {
        let options = serde_saphyr::options! { with_snippet: false };
        let file: file::File = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| error::of_yaml(name, text, &error))?;
        check::check(file, name)
    }

    /// Whether `vipgate run` can start with this file: a part of it, such as `services` alone, is enough for other
    /// commands. Errors name what is missing.
    pub fn require_runnable(&self) -> Result<(), ConfigErrors> {
        let mut errors = Vec::new();
        let mut missing = |message: &str| {
            errors.push(ConfigError::in_file(&self.file, message.to_owned()));
        };
        if self.ports.is_empty() {
            missing("`ports` is missing: `vipgate run` needs at least one port");
        }
        if self.source.is_none() {
            missing("`source` is missing: `vipgate run` needs one of `manifests`, `kubernetes`");
        }
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors(errors)) }
    }
}

impl Workers {
    /// The control core and the worker cores on a machine with these cores (ascending, at least one).
    ///
    /// Errors with a sentence when a configured core is not there, or none is left for workers.
    pub fn place(&self, available: &[usize]) -> Result<(usize, Vec<usize>), String> {
        let first = *available.first().ok_or("this machine has no usable core")?;
        let configured = self.cores.iter().flatten().chain(&self.main_core);
        if let Some(core) = configured.clone().find(|core| !available.contains(core)) {
            return Err(format!("core {core} is not usable here; usable are {available:?}"));
        }
        let taken = |core: &usize| self.cores.as_ref().is_some_and(|cores| cores.contains(core));
        let free = available.iter().copied().find(|core| !taken(core));
        let main = self.main_core.or(free).unwrap_or(first);
        let cores = match &self.cores {
            Some(cores) => cores.clone(),
            // The only core serves both: slow, but it works.
            None if available.len() == 1 => vec![first],
            None => available.iter().copied().filter(|core| *core != main).collect(),
        };
        Ok((main, cores))
    }
}
