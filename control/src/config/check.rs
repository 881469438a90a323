//! From the shape of the file to a [`Config`]: reads every value, fills in defaults, collects what is wrong.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dataplane::conntrack::lent;
use dataplane::rss::Ends;
use ipnet::IpNet;
use serde_saphyr::Location;
use tracing::Level;

use super::file::{self, File, Text};
use super::value::{self, Parsed};
use super::{
    Config, ConfigError, ConfigErrors, Conntrack, Device, Dns, HugePages, Idle, Log, LogFormat,
    Masquerade, Memory, Port, PortRoute, Source, Timeouts, Workers,
};

/// kube-proxy's port, on loopback: metrics tell much about a cluster.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
/// As kubeadm and CoreDNS.
const DEFAULT_DNS_ZONE: &str = "cluster.local";
const DEFAULT_DNS_TTL: Duration = Duration::from_secs(5);
/// Two MiB.
const AFFINITY_CLIENTS: u32 = 1 << 18;
/// Used by all gateways that were not told another one.
const DEFAULT_FLEET_SEED: u64 = 0x7669_7067_6174_6521;

pub(super) fn check(file: File, name: &str) -> Result<Config, ConfigErrors> {
    let mut report = Report { file: name, errors: Vec::new() };
    let r = &mut report;
    let http = file.http.unwrap_or_default();
    let admin = file.admin.unwrap_or_default();
    let config = Config {
        file: name.to_owned(),
        ports: ports(r, file.ports.unwrap_or_default()),
        workers: workers(r, file.workers.unwrap_or_default()),
        memory: memory(r, &file.memory.unwrap_or_default()),
        conntrack: conntrack(r, file.conntrack.unwrap_or_default()),
        masquerade: masquerade(r, &file.masquerade.unwrap_or_default()),
        source: file.source.and_then(|source| self::source(r, source.value, source.referenced)),
        services: file.services.unwrap_or_default(),
        dns: file.dns.and_then(|dns| self::dns(r, dns.value, dns.referenced)),
        http: r.value("address", &http.address, value::listen).unwrap_or(DEFAULT_HTTP),
        admin_socket: r
            .value("socket", &admin.socket, value::socket)
            .unwrap_or_else(|| "/run/vipgate/vipgate.sock".into()),
        fleet_seed: r
            .value("fleetSeed", &file.fleet_seed, value::seed)
            .unwrap_or(DEFAULT_FLEET_SEED),
        log: log(r, &file.log.unwrap_or_default()),
    };
    if report.errors.is_empty() {
        return Ok(config);
    }
    report.errors.sort_by_key(|error| error.position);
    Err(ConfigErrors(report.errors))
}

fn ports(r: &mut Report<'_>, ports: Vec<serde_saphyr::Spanned<file::Port>>) -> Vec<Port> {
    let mut names = Unique::new("name");
    let mut twins = Unique::new("twin");
    let mut devices = Unique::new("device");
    let mut addresses = Unique::new("address");
    let ends = [("both", Ends::Both), ("source", Ends::Source), ("destination", Ends::Destination)];
    let mut read = Vec::new();
    for port in ports {
        let (at, port) = (port.referenced, port.value);
        let Some(name) = r.read("name", &port.name, value::name(32)) else { continue };
        names.insert(r, port.name.referenced, name.clone());
        let Some(device) = device(r, at, &port) else { continue };
        let (Device::Pci(id) | Device::Vdev(id)) = &device;
        devices.insert(r, at, id.split(',').next().unwrap_or(id).to_owned());
        let Some(twin) = twin(r, &name, &port) else { continue };
        twins.insert(r, port.twin.as_ref().unwrap_or(&port.name).referenced, twin.clone());
        let own = r.list("addresses", port.addresses.as_deref(), value::interface);
        for (net, at) in &own {
            addresses.insert(r, *at, net.addr());
        }
        let own: Vec<IpNet> = own.into_iter().map(|(net, _)| net).collect();
        let mtu = r.value("mtu", &port.mtu, value::number(1280..=9702)).unwrap_or(1500);
        read.push(Port {
            name,
            device,
            mtu,
            mss_clamp: r.value("mssClamp", &port.mss_clamp, value::mss_clamp(mtu)),
            rss: r.value("rss", &port.rss, value::word(&ends)).unwrap_or_default(),
            descriptors: r
                .value("descriptors", &port.descriptors, value::number(64..=32_768))
                .unwrap_or(1024),
            routes: port.routes.iter().flatten().filter_map(|to| route(r, to, &own)).collect(),
            addresses: own,
            twin,
            announce: r.plain_list("announce", port.announce.as_deref(), value::network),
        });
    }
    read
}

fn device(r: &mut Report<'_>, at: Location, port: &file::Port) -> Option<Device> {
    match (&port.pci, &port.vdev) {
        (Some(pci), None) => r.read("pci", pci, value::pci).map(Device::Pci),
        (None, Some(vdev)) => r.read("vdev", vdev, value::vdev).map(Device::Vdev),
        (None, None) => r.error(at, "this port has no device: give one of `pci`, `vdev`"),
        (Some(_), Some(vdev)) => {
            r.error(vdev.referenced, "this port has two devices: give one of `pci`, `vdev`")
        }
    }
}

fn twin(r: &mut Report<'_>, name: &str, port: &file::Port) -> Option<String> {
    if let Some(twin) = &port.twin {
        return r.read("twin", twin, value::name(value::DEVICE_NAME_MAX));
    }
    let twin = format!("vg-{name}");
    if twin.len() > value::DEVICE_NAME_MAX {
        let message = format!(
            "`name: {name}`: too long for a twin named `{twin}` (at most {} letters); shorten it or give `twin`",
            value::DEVICE_NAME_MAX
        );
        return r.error(port.name.referenced, message);
    }
    Some(twin)
}

fn route(r: &mut Report<'_>, route: &file::Route, own: &[IpNet]) -> Option<PortRoute> {
    let to = r.read("to", &route.to, value::network);
    let via = r.read("via", &route.via, value::ip);
    let (to, via) = (to?, via?);
    let at = route.via.referenced;
    let of_family = |net: &&IpNet| net.addr().is_ipv4() == via.is_ipv4();
    if !of_family(&&to) {
        return r.error(
            at,
            format!("`via: {via}`: expected an address of the same family as `to: {to}`"),
        );
    }
    let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut nets = own.iter().filter(of_family).peekable();
    // A port whose addresses are set elsewhere can reach any next hop, for all we know.
    if !link_local && nets.peek().is_some() && !nets.any(|net| net.contains(&via)) {
        let message =
            format!("`via: {via}`: expected an address in a network of this port's `addresses`");
        return r.error(at, message);
    }
    Some(PortRoute { to, via })
}

fn workers(r: &mut Report<'_>, workers: file::Workers) -> Workers {
    let core = || value::number(0..=1023);
    let main_core = r.value("mainCore", &workers.main_core, core());
    let mut unique = Unique::new("core");
    let cores = workers.cores.map(|cores| {
        if cores.value.is_empty() {
            r.error::<()>(cores.referenced, "`cores`: expected at least one core");
        }
        let read = r.list("cores", Some(&cores.value), core());
        for &(core, at) in &read {
            unique.insert(r, at, core);
            if main_core == Some(core) {
                r.error::<()>(
                    at,
                    format!(
                        "`cores: {core}`: this is `mainCore`; a worker needs a core of its own"
                    ),
                );
            }
        }
        read.into_iter().map(|(core, _)| core).collect()
    });
    let idle = [("busy", Idle::Busy), ("pause", Idle::Pause), ("sleep", Idle::Sleep)];
    let idle = r.value("idle", &workers.idle, value::word(&idle)).unwrap_or_default();
    Workers { cores, main_core, idle }
}

fn memory(r: &mut Report<'_>, memory: &file::Memory) -> Memory {
    let words =
        [("auto", HugePages::Auto), ("true", HugePages::Required), ("false", HugePages::Off)];
    Memory {
        huge_pages: r
            .value("hugePages", &memory.huge_pages, value::word(&words))
            .unwrap_or_default(),
        size_mib: r.value("sizeMiB", &memory.size_mib, value::number(64..=1_048_576)),
    }
}

fn conntrack(r: &mut Report<'_>, conntrack: file::Conntrack) -> Conntrack {
    let room = || value::number(1000..=100_000_000u32);
    let connections = r.value("connections", &conntrack.connections, room()).unwrap_or(1_000_000);
    let connections_v6 = r.value("connectionsV6", &conntrack.connections_v6, room());
    let affinity_clients = r.value("affinityClients", &conntrack.affinity_clients, room());
    let times = conntrack.timeouts.unwrap_or_default();
    let default = Timeouts::default();
    let mut time = |key, text: &Option<Text>, default: Duration| {
        r.value(key, text, value::duration).unwrap_or(default)
    };
    Conntrack {
        connections,
        connections_v6: connections_v6.unwrap_or_else(|| (connections / 4).max(1000)),
        affinity_clients: affinity_clients.unwrap_or(AFFINITY_CLIENTS),
        timeouts: Timeouts {
            tcp_established: time(
                "tcpEstablished",
                &times.tcp_established,
                default.tcp_established,
            ),
            tcp_half_closed: time("tcpHalfClosed", &times.tcp_half_closed, default.tcp_half_closed),
            tcp_transitory: time("tcpTransitory", &times.tcp_transitory, default.tcp_transitory),
            tcp_half_open: time("tcpHalfOpen", &times.tcp_half_open, default.tcp_half_open),
            udp_unreplied: time("udp", &times.udp, default.udp_unreplied),
            udp_replied: time("udpStream", &times.udp_stream, default.udp_replied),
            sctp_established: time(
                "sctpEstablished",
                &times.sctp_established,
                default.sctp_established,
            ),
        },
    }
}

fn masquerade(r: &mut Report<'_>, masquerade: &file::Masquerade) -> Masquerade {
    let addresses = r.list("addresses", masquerade.addresses.as_deref(), value::ip);
    let mut unique = Unique::new("address");
    for &(address, at) in &addresses {
        unique.insert(r, at, address);
    }
    let most = lent::ADDRESSES;
    if let Some((_, at)) = addresses.iter().filter(|(address, _)| address.is_ipv6()).nth(most) {
        r.error::<()>(*at, format!("`addresses`: expected at most {most} IPv6 addresses"));
    }
    let addresses: Vec<IpAddr> = addresses.into_iter().map(|(address, _)| address).collect();
    // A port's address is shared with the kernel, whose own connections use 32768-60999; a pool is ours alone.
    let default = if addresses.is_empty() { 61_000..=65_535 } else { 1024..=65_535 };
    let ports = r.value("ports", &masquerade.ports, value::port_range).unwrap_or(default);
    Masquerade { addresses, ports }
}

fn source(r: &mut Report<'_>, source: file::Source, at: Location) -> Option<Source> {
    let expected = "expected exactly one of `manifests`, `kubernetes`";
    match (source.manifests, source.kubernetes) {
        (Some(manifests), None) => match &manifests.value.path {
            Some(path) => r.read("path", path, value::path).map(|path| Source::Manifests { path }),
            None => r.error(manifests.referenced, "`manifests`: the key `path` is missing here"),
        },
        (None, Some(kubernetes)) => {
            let context = |text: &str| match text {
                "" => Err("expected the name of a context".to_owned()),
                text => Ok(text.to_owned()),
            };
            Some(Source::Kubernetes {
                kubeconfig: r.value("kubeconfig", &kubernetes.value.kubeconfig, value::path),
                context: r.value("context", &kubernetes.value.context, context),
            })
        }
        (None, None) => r.error(at, format!("`source`: {expected}, found none")),
        (Some(_), Some(_)) => r.error(at, format!("`source`: {expected}, found both")),
    }
}

fn dns(r: &mut Report<'_>, dns: file::Dns, at: Location) -> Option<Dns> {
    let listen = r.list("addresses", dns.addresses.as_deref(), value::dns_listen);
    let mut unique = Unique::new("address");
    for &(address, at) in &listen {
        unique.insert(r, at, address);
    }
    let addresses: Vec<SocketAddr> = listen.into_iter().map(|(address, _)| address).collect();
    if dns.addresses.is_none_or(|addresses| addresses.is_empty()) {
        return r.error(at, "`dns`: the key `addresses` is missing here: give at least one");
    }
    let upstreams = r.list("upstreams", dns.upstreams.as_deref(), value::dns_server);
    for (upstream, at) in &upstreams {
        if addresses.contains(upstream) {
            let message = format!(
                "`upstreams: {upstream}`: this is one of `addresses`; the server can't ask itself"
            );
            r.error::<()>(*at, message);
        }
    }
    let ttl = r.value("ttl", &dns.ttl, value::duration).unwrap_or(DEFAULT_DNS_TTL);
    Some(Dns {
        addresses,
        zone: r
            .value("zone", &dns.zone, value::zone)
            .or_else(|| value::zone(DEFAULT_DNS_ZONE).ok())?,
        ttl: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        upstreams: upstreams.into_iter().map(|(upstream, _)| upstream).collect(),
    })
}

fn log(r: &mut Report<'_>, log: &file::Log) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    Log {
        format: r.value("format", &log.format, value::word(&formats)).unwrap_or(LogFormat::Text),
        level: r.value("level", &log.level, value::word(&levels)).unwrap_or(Level::INFO),
    }
}

/// Collects errors.
struct Report<'a> {
    file: &'a str,
    errors: Vec<ConfigError>,
}

impl Report<'_> {
    /// Notes an error; `None`, so that a value that can't be had can be passed on.
    fn error<T>(&mut self, at: Location, message: impl Into<String>) -> Option<T> {
        self.errors.push(ConfigError::at(self.file, at, message.into()));
        None
    }

    /// A value that is given; `None` when it is bad.
    fn read<T>(&mut self, key: &str, text: &Text, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.error(text.referenced, format!("`{key}: {}`: {expected}", text.value))
            }
        }
    }

    /// A value that may be given; `None` when it is not, or bad.
    fn value<T>(
        &mut self,
        key: &str,
        text: &Option<Text>,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Option<T> {
        self.read(key, text.as_ref()?, parse)
    }

    /// The good values of a list, with their places.
    fn list<T>(
        &mut self,
        key: &str,
        texts: Option<&[Text]>,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Vec<(T, Location)> {
        let texts = texts.unwrap_or_default().iter();
        texts.filter_map(|text| Some((self.read(key, text, &parse)?, text.referenced))).collect()
    }

    /// The good values of a list.
    fn plain_list<T>(
        &mut self,
        key: &str,
        texts: Option<&[Text]>,
        parse: impl Fn(&str) -> Parsed<T>,
    ) -> Vec<T> {
        self.list(key, texts, parse).into_iter().map(|(value, _)| value).collect()
    }
}

/// Values that may occur once.
struct Unique<T> {
    what: &'static str,
    seen: HashMap<T, u64>,
}

impl<T: Eq + Hash + Display> Unique<T> {
    fn new(what: &'static str) -> Self {
        Self { what, seen: HashMap::new() }
    }

    fn insert(&mut self, r: &mut Report<'_>, at: Location, value: T) {
        let what = self.what;
        if let Some(line) = self.seen.get(&value) {
            r.error::<()>(at, format!("the {what} `{value}` is already used in line {line}"));
        } else {
            self.seen.insert(value, at.line());
        }
    }
}
