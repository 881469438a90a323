//! The configuration file: what it means, and the exact words for everything that can be wrong with it.

use std::path::Path;
use std::time::Duration;

use control::config::{Config, Device, HugePages, Idle, LogFormat, Source};
use control::settings::Role;
use dataplane::fib::MssClamp;

fn parse(text: &str) -> Config {
    Config::parse(text, "f.yaml").unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> String {
    match Config::parse(text, "f.yaml") {
        Ok(config) => panic!("accepted: {text}\n{config:#?}"),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn the_example_has_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vipgate.example.yaml");
    let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
    config.require_runnable().expect("complete");

    let [uplink, cluster] = &config.ports[..] else { panic!("two ports") };
    assert_eq!(uplink.device, Device::Pci("0000:00:04.0".into()));
    assert_eq!(uplink.addresses.len(), 2);
    assert_eq!(uplink.routes[0].to.to_string(), "0.0.0.0/0");
    assert_eq!(uplink.routes[1].via.to_string(), "fe80::1");
    assert_eq!(uplink.announce[0].to_string(), "192.0.2.128/25");
    assert_eq!(uplink.mss_clamp, Some(MssClamp { v4: 1460, v6: 1440 }));
    assert_eq!(cluster.mss_clamp, None);
    assert_eq!(cluster.device, Device::Vdev("net_af_packet0,iface=eth1".into()));
    assert_eq!((cluster.mtu, cluster.twin.as_str()), (1500, "vg-cluster"));
    assert_eq!(config.workers.cores, Some(vec![1, 2]));
    assert_eq!(config.conntrack.connections, 1_000_000);
    assert_eq!(config.masquerade.ports, 1024..=65_535);
    assert_eq!(
        config.source,
        Some(Source::Kubernetes {
            kubeconfig: Some("/etc/vipgate/kubeconfig".into()),
            context: Some("production".into()),
        })
    );
    assert_eq!(config.services.role, Role::Edge);
}

/// Each default in the example is the default: a reader can leave the line out.
#[test]
fn the_example_tells_true_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/vipgate.example.yaml");
    let (example, empty) = (Config::load(&path).expect("valid"), parse(""));
    assert_eq!(example.conntrack, empty.conntrack);
    assert_eq!(example.http, empty.http);
    assert_eq!(example.admin_socket, empty.admin_socket);
    assert_eq!(example.log, empty.log);
    assert_eq!(example.memory.huge_pages, empty.memory.huge_pages);
    assert_eq!(example.workers.idle, empty.workers.idle);
}

#[test]
fn the_reference_explains_every_key_of_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect("readable");
    let (example, reference) = (read("deploy/vipgate.example.yaml"), read("docs/configuration.md"));
    let key = |line: &str| {
        let line = line.trim_start_matches([' ', '-', '#']);
        let (key, _) = line.split_once(':')?;
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (plain && key.starts_with(char::is_alphabetic)).then(|| key.to_owned())
    };
    let keys: Vec<String> = example.lines().filter_map(key).collect();
    assert!(keys.len() > 50, "{keys:?}");
    for key in keys {
        let named =
            [format!("`{key}`"), format!(".{key}`"), format!("`{key}."), format!("{{{key}, ")];
        let heading = [format!("## {key}"), format!("`{key}`, "), format!(", {key}}}")];
        let explained = named.iter().chain(&heading).any(|form| reference.contains(form));
        assert!(explained, "docs/configuration.md does not explain `{key}`");
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = parse("");
    assert_eq!(config.workers.idle, Idle::Sleep);
    assert_eq!(config.memory.huge_pages, HugePages::Auto);
    assert_eq!(config.conntrack.connections_v6, 250_000);
    assert_eq!(config.conntrack.timeouts.tcp_established, Duration::from_secs(7440));
    assert_eq!(config.conntrack.timeouts.tcp_transitory, Duration::from_secs(240));
    assert_eq!(config.masquerade.ports, 61_000..=65_535);
    assert_eq!(config.http.to_string(), "127.0.0.1:10256");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.source, None);
    assert_eq!(
        config.require_runnable().expect_err("nothing to run").to_string(),
        "f.yaml: `ports` is missing: `vipgate run` needs at least one port\n\
         f.yaml: `source` is missing: `vipgate run` needs one of `manifests`, `kubernetes`"
    );
}

#[test]
fn dns_is_off_unless_it_has_an_address() {
    assert_eq!(parse("").dns, None);
    let dns = parse("dns: {addresses: [192.0.2.1, '[2001:db8::1]:5353']}").dns.expect("given");
    let addresses: Vec<String> = dns.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1:53", "[2001:db8::1]:5353"]);
    assert_eq!((dns.zone.to_ascii().as_str(), dns.ttl), ("cluster.local.", 5));
    assert_eq!(dns.upstreams, []);
    let zone = parse("dns: {addresses: [192.0.2.1], zone: K8s.Example.}").dns.expect("given").zone;
    assert_eq!(zone.to_ascii(), "k8s.example.");
}

#[test]
fn a_section_without_keys_is_its_defaults() {
    let keys = "workers memory conntrack masquerade services http admin log ports";
    for key in keys.split(' ') {
        parse(&format!("{key}:\n"));
    }
}

#[test]
fn values_have_several_spellings() {
    let config = parse(
        "conntrack: {affinityClients: 5000, timeouts: {tcpEstablished: 12h3m4s, udp: 30, udpStream: 90s, sctpEstablished: 5m}}\n\
         ports: [{name: a, pci: 0000:AF:00.1}]\n\
         memory: {hugePages: true}\n\
         source: {kubernetes: }\n",
    );
    let timeouts = config.conntrack.timeouts;
    assert_eq!(timeouts.tcp_established, Duration::from_secs(12 * 3600 + 180 + 4));
    assert_eq!(timeouts.udp_unreplied, Duration::from_secs(30));
    assert_eq!(timeouts.udp_replied, Duration::from_secs(90));
    assert_eq!(timeouts.sctp_established, Duration::from_secs(300));
    assert_eq!(config.conntrack.affinity_clients, 5000);
    assert_eq!(parse("{}").conntrack.affinity_clients, 262_144);
    assert_eq!(config.ports[0].device, Device::Pci("0000:af:00.1".into()));
    assert_eq!(config.memory.huge_pages, HugePages::Required);
    assert_eq!(config.source, Some(Source::Kubernetes { kubeconfig: None, context: None }));

    assert_eq!(parse("fleetSeed: 7").fleet_seed, 7);
    // The seed decides backends: what a text means must never change.
    assert_eq!(parse("fleetSeed: edge").fleet_seed, 0x3a75_2460_2c72_007c);
}

#[test]
fn every_mistake_has_its_place_and_its_words() {
    let cases: &[(&str, &str)] = &[
        // The shape.
        (
            "prots: []\n",
            "1:1: unknown key `prots` (did you mean `ports`?); allowed here: ports, workers, memory, \
             conntrack, masquerade, source, services, http, dns, admin, fleetSeed, log",
        ),
        (
            "log:\n  level: info\n  colour: true\n",
            "3:3: unknown key `colour`; allowed here: format, level",
        ),
        (
            "ports:\n  - name: a\n    adresses: []\n",
            "3:5: unknown key `adresses` (did you mean `addresses`?); allowed here: name, pci, vdev, mtu, \
             mssClamp, rss, descriptors, addresses, routes, twin, announce",
        ),
        (
            "services: {nodeips: []}\n",
            "1:12: unknown key `nodeips` (did you mean `nodeIPs`?); allowed here: role, nodeName, nodeIPs, \
             nodeLabels, clusterCIDR, serviceCIDRs, masqueradeAll, nodePortAddresses, \
             rejectUnknownClusterIPPorts, allowedExternalIPs, allowedLoadBalancerIPs",
        ),
        ("log: {level: info}\nlog: {}\n", "2:1: the key `log` is given twice"),
        ("ports:\n  - pci: 0000:00:04.0\n", "2:5: the key `name` is missing here"),
        ("ports:\n  - name:\n", "2:9: a value is missing here"),
        ("ports: a\n", "1:8: expected a list here (`[a, b]`, or lines that begin with `- `)"),
        ("log: text\n", "1:6: expected keys with values here (`key: value`)"),
        ("- 1\n", "1:1: expected keys with values here (`key: value`)"),
        ("fleetSeed: [1]\n", "1:12: expected one value here, not a list or keys"),
        ("log: {level: 'info\n", "1:14: unclosed quote"),
        ("fleetSeed: *a\n", "1:12: alias references unknown anchor"),
        ("fleetSeed: 1\n---\nfleetSeed: 2\n", "3:1: expected one YAML document, found another"),
        // Ports.
        ("dns: {ttl: 5s}\n", "1:6: `dns`: the key `addresses` is missing here: give at least one"),
        (
            "dns: {addresses: [0.0.0.0, 192.0.2.1], zone: 'a..b', upstreams: [one, 192.0.2.1:53]}\n",
            "1:19: `addresses: 0.0.0.0`: expected an address of this machine, such as 192.0.2.10 or \
             [2001:db8::10]:53\n\
             1:46: `zone: a..b`: expected a domain name, such as cluster.local\n\
             1:66: `upstreams: one`: expected a DNS server's address, such as 192.0.2.53 or \
             [2001:db8::53]:5353\n\
             1:71: `upstreams: 192.0.2.1:53`: this is one of `addresses`; the server can't ask itself",
        ),
        ("ports:\n  - name: a\n", "2:5: this port has no device: give one of `pci`, `vdev`"),
        (
            "ports: [{name: a, pci: 0000:00:04.0, vdev: net_null0}]\n",
            "1:44: this port has two devices: give one of `pci`, `vdev`",
        ),
        (
            "ports: [{name: a, pci: 00:04.0}]\n",
            "1:24: `pci: 00:04.0`: expected a PCI address, such as 0000:00:04.0 (did you mean \
             `0000:00:04.0`?)",
        ),
        (
            "ports: [{name: a, pci: eth0}]\n",
            "1:24: `pci: eth0`: expected a PCI address, such as 0000:00:04.0",
        ),
        (
            "ports: [{name: a, vdev: eth0}]\n",
            "1:25: `vdev: eth0`: expected a driver with a number and arguments, such as \
             net_af_packet0,iface=eth1",
        ),
        (
            "ports: [{name: a b, vdev: net_null0}]\n",
            "1:16: `name: a b`: expected 1 to 32 letters, digits, `-`, `_` or `.`, beginning with a letter \
             or digit",
        ),
        (
            "ports: [{name: a-long-name-of-a-port, vdev: net_null0}]\n",
            "1:16: `name: a-long-name-of-a-port`: too long for a twin named `vg-a-long-name-of-a-port` (at \
             most 15 letters); shorten it or give `twin`",
        ),
        (
            "ports:\n  - {name: a, vdev: net_null0}\n  - {name: a, vdev: 'net_null0,x=1', twin: b}\n",
            "3:5: the device `net_null0` is already used in line 2\n\
             3:12: the name `a` is already used in line 2",
        ),
        (
            "ports:\n  - {name: a, vdev: net_null0}\n  - {name: b, vdev: net_null1, twin: vg-a}\n",
            "3:38: the twin `vg-a` is already used in line 2",
        ),
        (
            "ports:\n  - {name: a, vdev: net_null0, addresses: [10.0.0.1/24, 10.0.0.1/25]}\n",
            "2:57: the address `10.0.0.1` is already used in line 2",
        ),
        (
            "ports: [{name: a, vdev: net_null0, mtu: 64}]\n",
            "1:41: `mtu: 64`: expected a whole number from 1280 to 9702",
        ),
        (
            "ports: [{name: a, vdev: net_null0, mssClamp: 100}]\n",
            "1:46: `mssClamp: 100`: expected a whole number from 536 to 9662, or auto",
        ),
        (
            "ports: [{name: a, vdev: net_null0, rss: sources}]\n",
            "1:41: `rss: sources`: expected one of both, source, destination (did you mean `source`?)",
        ),
        (
            "ports: [{name: a, vdev: net_null0, descriptors: many}]\n",
            "1:49: `descriptors: many`: expected a whole number from 64 to 32768",
        ),
        (
            "ports: [{name: a, vdev: net_null0, addresses: [10.0.0.1]}]\n",
            "1:48: `addresses: 10.0.0.1`: expected an address with the length of its network, such as \
             192.0.2.10/24",
        ),
        (
            "ports: [{name: a, vdev: net_null0, addresses: [10.0.0.0/24]}]\n",
            "1:48: `addresses: 10.0.0.0/24`: this is a network; expected an address with the length of its \
             network, such as 192.0.2.10/24",
        ),
        (
            "ports: [{name: a, vdev: net_null0, announce: [10.0.0.1/24, 10.0.0.9]}]\n",
            "1:47: `announce: 10.0.0.1/24`: expected a network, such as 203.0.113.0/24 or 2001:db8::/64 \
             (did you mean `10.0.0.0/24`?)\n\
             1:60: `announce: 10.0.0.9`: expected a network, such as 203.0.113.0/24 or 2001:db8::/64 (did \
             you mean `10.0.0.9/32`?)",
        ),
        (
            "ports: [{name: a, vdev: net_null0, routes: [{to: 0.0.0.0/0, via: fe80::1}]}]\n",
            "1:66: `via: fe80::1`: expected an address of the same family as `to: 0.0.0.0/0`",
        ),
        (
            "ports: [{name: a, vdev: net_null0, addresses: [10.0.0.2/24], routes: [{to: 0.0.0.0/0, via: \
             10.0.1.1}]}]\n",
            "1:92: `via: 10.0.1.1`: expected an address in a network of this port's `addresses`",
        ),
        // Everything else.
        ("workers: {cores: []}\n", "1:18: `cores`: expected at least one core"),
        ("workers: {cores: [1, 1]}\n", "1:22: the core `1` is already used in line 1"),
        (
            "workers: {cores: [0, 1], mainCore: 0}\n",
            "1:19: `cores: 0`: this is `mainCore`; a worker needs a core of its own",
        ),
        (
            "workers: {idle: bussy}\n",
            "1:17: `idle: bussy`: expected one of busy, pause, sleep (did you mean `busy`?)",
        ),
        ("memory: {hugePages: yes}\n", "1:21: `hugePages: yes`: expected one of auto, true, false"),
        (
            "memory: {sizeMiB: 2GiB}\n",
            "1:19: `sizeMiB: 2GiB`: expected a whole number from 64 to 1048576",
        ),
        (
            "conntrack: {connections: 1e6}\n",
            "1:26: `connections: 1e6`: expected a whole number from 1000 to 100000000",
        ),
        (
            "conntrack: {timeouts: {udp: 1m1h, tcpHalfOpen: 0, udpStream: 17h}}\n",
            "1:29: `udp: 1m1h`: expected a duration from 1s to 16h40m, such as 240, 240s, 4m or 2h4m\n\
             1:48: `tcpHalfOpen: 0`: expected a duration from 1s to 16h40m, such as 240, 240s, 4m or 2h4m\n\
             1:62: `udpStream: 17h`: expected a duration from 1s to 16h40m, such as 240, 240s, 4m or 2h4m",
        ),
        (
            "masquerade: {addresses: [127.0.0.1, 10.0.0.300]}\n",
            "1:26: `addresses: 127.0.0.1`: expected an address another host can reach\n\
             1:37: `addresses: 10.0.0.300`: expected an IP address, such as 192.0.2.1 or 2001:db8::1",
        ),
        (
            "masquerade: {ports: 80-90}\n",
            "1:21: `ports: 80-90`: expected FIRST-LAST with 1024 <= FIRST < LAST <= 65535",
        ),
        (
            "source: {}\n",
            "1:9: `source`: expected exactly one of `manifests`, `kubernetes`, found none",
        ),
        (
            "source:\n  manifests: {path: a}\n  kubernetes:\n",
            "2:3: `source`: expected exactly one of `manifests`, `kubernetes`, found both",
        ),
        ("source: {manifests: {}}\n", "1:21: `manifests`: the key `path` is missing here"),
        (
            "http: {address: 10256}\n",
            "1:17: `address: 10256`: expected an address and a port, such as 127.0.0.1:10256 or \
             [::]:10256",
        ),
        (
            "admin: {socket: vipgate.sock}\n",
            "1:17: `socket: vipgate.sock`: expected an absolute path of at most 107 bytes",
        ),
        ("fleetSeed: ''\n", "1:12: `fleetSeed: `: expected a number or a text"),
        (
            "log: {format: xml, level: inof}\n",
            "1:15: `format: xml`: expected one of text, json\n\
             1:27: `level: inof`: expected one of error, warn, info, debug, trace (did you mean `info`?)",
        ),
        // Services.
        (
            "services: {role: edg}\n",
            "1:18: `edg`: expected one of node, edge (did you mean `edge`?)",
        ),
    ];
    for (text, expected) in cases {
        let expected: Vec<String> = expected.lines().map(|line| format!("f.yaml:{line}")).collect();
        assert_eq!(errors(text), expected.join("\n"), "for:\n{text}");
    }
}

#[test]
fn bad_values_of_services_have_a_place() {
    for (text, beginning) in [
        ("services: {nodeIPs: [10.0.0.300]}\n", "f.yaml:1:21: services.nodeIPs[0]: "),
        ("services:\n  clusterCIDR: a,b\n", "f.yaml:2:16: services.clusterCIDR[0]: "),
        ("services: {serviceCIDRs: [10.0.0.0/33]}\n", "f.yaml:1:26: services.serviceCIDRs[0]: "),
        ("services: {masqueradeAll: perhaps}\n", "f.yaml:1:27: `perhaps`: "),
        ("services: {nodePortAddresses: [a]}\n", "f.yaml:1:31: services.nodePortAddresses[0]: "),
    ] {
        let errors = errors(text);
        assert!(errors.starts_with(beginning), "{errors}");
        assert!(!errors.contains(" at line "), "{errors}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = Config::load(Path::new("/nowhere/vipgate.yaml")).expect_err("no such file");
    assert_eq!(
        errors.to_string(),
        "/nowhere/vipgate.yaml: cannot read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_pool_has_at_most_31_ipv6_addresses() {
    let pool = |v6: usize| {
        let addresses: Vec<String> = (1..=40)
            .map(|i| format!("192.0.2.{i}"))
            .chain((1..=v6).map(|i| format!("2001:db8::{i}")))
            .collect();
        format!("masquerade: {{addresses: [{}]}}\n", addresses.join(", "))
    };
    assert_eq!(parse(&pool(31)).masquerade.addresses.len(), 71);
    let error = errors(&pool(32));
    assert!(error.ends_with("`addresses`: expected at most 31 IPv6 addresses"), "{error}");
}

#[test]
fn workers_find_their_cores() {
    let place = |text: &str, available: &[usize]| parse(text).workers.place(available);
    assert_eq!(place("", &[0]), Ok((0, vec![0])));
    assert_eq!(place("", &[0, 1, 2]), Ok((0, vec![1, 2])));
    assert_eq!(place("", &[2, 5]), Ok((2, vec![5])));
    assert_eq!(place("workers: {mainCore: 1}", &[0, 1, 2]), Ok((1, vec![0, 2])));
    assert_eq!(place("workers: {cores: [2, 1]}", &[0, 1, 2]), Ok((0, vec![2, 1])));
    assert_eq!(place("workers: {cores: [0, 1]}", &[0, 1, 2]), Ok((2, vec![0, 1])));
    assert_eq!(place("workers: {cores: [0, 1]}", &[0, 1]), Ok((0, vec![0, 1])));
    assert_eq!(
        place("workers: {cores: [7]}", &[0, 1]),
        Err("core 7 is not usable here; usable are [0, 1]".to_owned())
    );
    assert!(place("", &[]).is_err());
}
