//! The control plane's tasks, wired together: source, control loop, kernel twins, netlink mirror, resolver.
//!
//! All run on the one control thread. [`Prepared::new`] makes what can fail and reads the kernel's tables once, so that
//! workers start with routes; [`Plane::start`] sets everything going.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use control::assembly::Assembly;
use control::config::{Config, Device, Source};
use control::control::{Control, Handle, Update};
use control::dns::{Counters, Dns, DnsError};
use control::events::{self, Sink};
use control::kernel::bell::Bells;
use control::kernel::mirror::Mirror;
use control::kernel::twin::{Queues, Twin, TwinConfig};
use control::kernel::{self, KernelError, resolve, routes, underlay};
use control::publish::TablesPublisher;
use control::source::kubernetes::{self, Scope};
use control::source::manifests::{self, Manifests};
use dataplane::fib::{Fib, FibSpec, Mac, PortId};
use dataplane::hash::HashKey;
use dataplane::service::ServiceTable;
use dataplane::snapshot::Publisher;
use dataplane::tables::{MasqueradePorts, Node, Tables};
use dataplane::worker::KernelPath;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::dpdk::{Mbuf, Mempool};

/// Why the control plane can't start.
#[derive(Debug, Error)]
pub enum PlaneError {
    /// Kernel twins, routes, netlink.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The cluster's API server: what is configured can't be used. Being out of reach is no such reason.
    #[error(transparent)]
    Connect(#[from] kubernetes::ConnectError),
    /// The DNS server's addresses.
    #[error(transparent)]
    Dns(#[from] DnsError),
}

/// What is made before the workers.
#[derive(Debug)]
pub struct Prepared {
    netlink: kernel::Handle,
    twins: Vec<Twin>,
    mirror: Mirror,
    host: Host,
    source: Option<Ready>,
    events: Arc<events::Counters>,
    dns: Option<Dns>,
}

/// A source that could be reached, or that needs no reaching.
enum Ready {
    Manifests(Manifests),
    Kubernetes(kubernetes::Client, kubernetes::Options),
}

/// The running tasks. Dropping it ends them.
#[derive(Debug)]
pub struct Plane {
    /// Reads the control loop's state.
    pub control: Handle,
    /// What the DNS server has done.
    pub dns: Arc<Counters>,
    /// What became of Events.
    pub events: Arc<events::Counters>,
    tasks: JoinSet<String>,
}

impl Prepared {
    /// Makes the kernel twins with their addresses and routes, and reads the kernel's tables.
    pub async fn new(config: &Config, macs: &[Mac]) -> Result<Self, PlaneError> {
        let events = Arc::<events::Counters>::default();
        let source = match &config.source {
            Some(source) => Some(Ready::new(source, config, &events).await?),
            None => None,
        };
        let netlink = kernel::connect()?;
        let mut twins = Vec::new();
        for (port, mac) in config.ports.iter().zip(macs) {
            if let Device::Vdev(arguments) = &port.device
                && let Some(device) = underlay::device_of(arguments)
            {
                underlay::silence(device);
            }
            let twin = TwinConfig {
                name: port.twin.clone(),
                mac: *mac,
                mtu: port.mtu,
                mss_clamp: port.mss_clamp,
                addresses: port.addresses.clone(),
            };
            let twin = Twin::create(&netlink, twin).await?;
            routes::install(&netlink, &twin, &port.routes).await?;
            twins.push(twin);
        }
        let mirror = Mirror::open(twins.iter().map(Twin::mirrored).collect()).await?;
        // Its addresses may be those of the twins.
        let dns = match &config.dns {
            Some(dns) => Some(Dns::bind(dns).await?),
            None => None,
        };
        Ok(Self { netlink, twins, mirror, host: Host::new(config), source, events, dns })
    }

    /// The tables workers begin with: routes, but no Services yet.
    #[must_use]
    pub fn tables(&self, config: &Config) -> Tables {
        let spec = self.mirror.spec();
        Tables {
            services: ServiceTable::new(HashKey::new(config.fleet_seed)),
            node: Arc::new(config.services.node(self.host.node(&spec))),
            fib: Arc::new(Fib::new(&spec)),
        }
    }
}

impl Ready {
    async fn new(
        source: &Source,
        config: &Config,
        events: &Arc<events::Counters>,
    ) -> Result<Self, PlaneError> {
        Ok(match source {
            Source::Manifests { path } => Self::Manifests(Manifests::new(path, &config.services)),
            Source::Kubernetes { kubeconfig, context } => {
                let client = kubernetes::connect(kubeconfig.as_deref(), context.as_deref()).await;
                let options = kubernetes::Options {
                    scope: if config.dns.is_some() { Scope::All } else { Scope::Addressed },
                    node_name: config.services.node_name.clone(),
                    events: events.clone(),
                };
                Self::Kubernetes(client?, options)
            }
        })
    }

    async fn run(self, handle: Handle) {
        // Both end only with the control loop, which says so itself.
        let _ = match self {
            Self::Manifests(manifests) => {
                let events = events::run(Sink::Log, handle.clone(), Arc::default());
                tokio::try_join!(manifests::run(manifests, handle), events).map(drop)
            }
            Self::Kubernetes(client, options) => kubernetes::run(client, options, handle).await,
        };
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifests(_) => "Manifests",
            Self::Kubernetes(..) => "Kubernetes",
        })
    }
}

impl Plane {
    /// Starts all tasks on the current runtime.
    #[must_use]
    pub fn start(
        config: &Config,
        prepared: Prepared,
        publisher: Publisher<Tables>,
        first: Tables,
        rings: &KernelPath<Mbuf>,
        bells: &Bells,
        pool: &Arc<Mempool>,
    ) -> Self {
        let Prepared { netlink, twins, mirror, host, source, events, dns } = prepared;
        let mut tasks = JoinSet::new();

        let assembly = Assembly::new(config.services.clone(), HashKey::new(config.fleet_seed));
        let (control, handle) = Control::new(assembly, TablesPublisher::new(publisher, first));
        tasks.spawn_local(ends("control loop", control.run()));

        let (sender, specs) = watch::channel(Arc::new(mirror.spec()));
        tasks.spawn_local(ends("kernel mirror", mirror.run(sender)));
        let indices = twins.iter().map(Twin::index).collect();
        let wanted = rings.wanted.clone();
        let bell = bells.resolver.clone();
        let resolver = resolve::run(netlink, indices, wanted, bell, specs.clone(), Arc::default());
        tasks.spawn_local(ends("resolver", resolver));
        tasks.spawn_local(ends("table feed", feed(host, specs, handle.clone())));

        for (port, twin) in twins.into_iter().enumerate() {
            let (punts, injects) = (rings.punts[port].clone(), rings.injects[port].clone());
            let queues = Queues { punts, injects, bell: bells.twins[port].clone() };
            let pool = pool.clone();
            let alloc = move |bytes: &[u8]| pool.frame(bytes);
            let twin = async move {
                format!("kernel twin: {}", twin.run(queues, alloc, Arc::default()).await)
            };
            tasks.spawn_local(twin);
        }

        if let Some(source) = source {
            tasks.spawn_local(ends("source", source.run(handle.clone())));
        }
        let counters = Arc::new(Counters::default());
        if let Some(dns) = dns {
            tasks.spawn_local(ends("DNS server", dns.run(handle.clone(), counters.clone())));
        }
        Self { control: handle, dns: counters, events, tasks }
    }

    /// Waits for the first task to end, which none should, and says which and why.
    pub async fn run(mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(reason)) => reason,
            Some(Err(error)) => format!("a control task has panicked: {error}"),
            None => "no control task is left".to_owned(),
        }
    }
}

/// What the configuration says about this host, beside `services`.
#[derive(Clone, Debug)]
struct Host {
    pool: Vec<IpAddr>,
    ports: MasqueradePorts,
    announced: Vec<(PortId, ipnet::IpNet)>,
}

impl Host {
    fn new(config: &Config) -> Self {
        let announced = (0..).zip(&config.ports);
        let announced =
            announced.flat_map(|(id, port)| port.announce.iter().map(move |net| (id, *net)));
        Self {
            pool: config.masquerade.addresses.clone(),
            ports: MasqueradePorts(config.masquerade.ports.clone()),
            announced: announced.collect(),
        }
    }

    /// The host as it is with the addresses the kernel has now.
    fn node(&self, spec: &FibSpec) -> Node {
        Node {
            addresses: spec.locals.iter().copied().collect(),
            masquerade_pool: self.pool.iter().copied().collect(),
            masquerade_ports: self.ports.clone(),
            announced: self.announced.clone(),
            ..Node::default()
        }
    }
}

/// Kernel state to tables, as it changes.
async fn feed(host: Host, mut specs: watch::Receiver<Arc<FibSpec>>, handle: Handle) {
    // Workers have begun with these routes; the host is news to the control loop.
    let first = specs.borrow_and_update().clone();
    if handle.send(Update::Host(host.node(&first))).await.is_err() {
        return;
    }
    while specs.changed().await.is_ok() {
        let spec = specs.borrow_and_update().clone();
        let sent = handle.send(Update::Host(host.node(&spec))).await;
        if sent.is_err() || handle.send(Update::Fib((*spec).clone())).await.is_err() {
            return;
        }
    }
}

async fn ends(name: &'static str, task: impl Future<Output = ()>) -> String {
    task.await;
    format!("{name} has ended")
}
