//! The cluster as rules of the kernel, in the shape in which kube-proxy's nftables mode programs them: maps of destinations
//! that lead to chains, one chain for each list of endpoints, one for traffic from outside, one for each endpoint.
//!
//! Written from the semantics alone: nothing here comes from the code under test. One thing is other than in kube-proxy:
//! endpoints are taken in turn (`numgen inc`), not at random, so that a few packets show them all.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::cluster::{Cluster, NODE, POD_RANGES, Port, SERVICE_RANGES, Service};
use crate::endpoints::{Lists, is_served, lists};

/// The rules of both families, for `nft -f`.
pub(crate) fn rules(cluster: &Cluster) -> String {
    [true, false].map(|v4| Table::new(cluster, v4).text()).concat()
}

/// The rules of a family while they are made.
struct Table<'a> {
    cluster: &'a Cluster,
    v4: bool,
    /// `ip` or `ip6`.
    ip: &'static str,
    chains: String,
    cluster_ips: BTreeSet<String>,
    firewall: Vec<String>,
    services: Vec<String>,
    node_ports: Vec<String>,
    no_endpoint_services: Vec<String>,
    no_endpoint_node_ports: Vec<String>,
}

impl<'a> Table<'a> {
    fn new(cluster: &'a Cluster, v4: bool) -> Self {
        let mut table = Self {
            cluster,
            v4,
            ip: if v4 { "ip" } else { "ip6" },
            chains: String::new(),
            cluster_ips: BTreeSet::new(),
            firewall: Vec::new(),
            services: Vec::new(),
            node_ports: Vec::new(),
            no_endpoint_services: Vec::new(),
            no_endpoint_node_ports: Vec::new(),
        };
        for service in &cluster.services {
            let cluster_ip = service.cluster_ips.iter().find(|ip| ip.is_ipv4() == v4);
            if let Some(cluster_ip) = cluster_ip.filter(|_| is_served(service)) {
                table.cluster_ips.insert(cluster_ip.to_string());
                for index in 0..service.ports.len() {
                    table.port(service, index, *cluster_ip);
                }
            }
        }
        table
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        let _ = writeln!(self.chains, "chain {name} {{\n{}\n}}", rules.join("\n"));
    }

    fn port(&mut self, service: &Service, index: usize, cluster_ip: IpAddr) {
        let (ip, v4) = (self.ip, self.v4);
        let port = &service.ports[index];
        let protocol = port.protocol.name();
        let name = format!("{}-{}", service.name, port.name);
        let Lists { cluster, local, has_endpoints } = lists(service, index, v4);
        self.endpoint_chains(&name, service, port, &cluster, &local);

        let policy = |is_local: bool| if is_local { "local" } else { "cluster" };
        let list = |is_local: bool| if is_local { &local } else { &cluster };
        let internal = format!("{}-{name}", policy(service.internal_local));
        let external = format!("{}-{name}", policy(service.external_local));
        // Each policy has a chain, entered by way of the cluster IP or from `external`.
        for is_local in [false, true] {
            let mut rules = Vec::new();
            if is_local == service.internal_local {
                let unless = match (self.cluster.masquerade_all, self.cluster.detector) {
                    (true, _) => Some(String::new()),
                    (false, true) => {
                        Some(format!("{ip} saddr != {}", POD_RANGES[usize::from(!v4)]))
                    }
                    (false, false) => None,
                };
                rules.extend(unless.map(|pods| {
                    format!("{ip} daddr {cluster_ip} {pods} jump mark-for-masquerade")
                }));
            }
            rules.extend(choice(ip, &name, service.affinity, list(is_local)));
            self.chain(&format!("{}-{name}", policy(is_local)), &rules);
        }
        let mut rules = Vec::new();
        if service.external_local {
            if self.cluster.detector {
                let pods = POD_RANGES[usize::from(!v4)];
                rules.push(format!("{ip} saddr {pods} goto cluster-{name}"));
            }
            rules.push("fib saddr type local jump mark-for-masquerade".into());
            rules.push(format!("fib saddr type local goto cluster-{name}"));
        } else {
            rules.push("jump mark-for-masquerade".into());
        }
        if !list(service.external_local).is_empty() {
            rules.push(format!("goto {external}"));
        }
        self.chain(&format!("external-{name}"), &rules);

        let nobody = if has_endpoints { "drop" } else { "goto reject-chain" };
        let at = |ip: &IpAddr| format!("{ip} . {protocol} . {}", port.number);
        if list(service.internal_local).is_empty() {
            self.no_endpoint_services.push(format!("{} : {nobody}", at(&cluster_ip)));
        } else {
            self.services.push(format!("{} : goto {internal}", at(&cluster_ip)));
        }
        let balancers = service.balancers.iter().filter(|b| !b.proxy).map(|b| b.ip);
        let balancers: BTreeSet<IpAddr> = balancers.filter(|ip| ip.is_ipv4() == v4).collect();
        let outside = service.external_ips.iter().filter(|ip| ip.is_ipv4() == v4);
        let outside: BTreeSet<IpAddr> = outside.chain(&balancers).copied().collect();
        let without_list = list(service.external_local).is_empty();
        for address in &outside {
            if has_endpoints {
                self.services.push(format!("{} : goto external-{name}", at(address)));
            }
            if without_list {
                self.no_endpoint_services.push(format!("{} : {nobody}", at(address)));
            }
        }
        if let Some(number) = port.node_port {
            if has_endpoints {
                self.node_ports.push(format!("{protocol} . {number} : goto external-{name}"));
            }
            if without_list {
                self.no_endpoint_node_ports.push(format!("{protocol} . {number} : {nobody}"));
            }
        }
        if let Some(sources) = self.sources(service, &balancers) {
            self.chain(
                &format!("firewall-{name}"),
                &[format!("{ip} saddr != {{ {sources} }} drop")],
            );
            let elements = balancers.iter().map(|ip| format!("{} : goto firewall-{name}", at(ip)));
            self.firewall.extend(elements);
        }
    }

    /// Who may use a Service's balancer addresses; `None`: everybody.
    fn sources(&self, service: &Service, balancers: &BTreeSet<IpAddr>) -> Option<String> {
        let ranges =
            service.ranges.iter().map(|range| range.meant.parse::<IpNet>().expect("a range"));
        let ranges: Vec<IpNet> = ranges.filter(|range| range.addr().is_ipv4() == self.v4).collect();
        let primary: IpAddr = NODE[0][usize::from(!self.v4)].parse().expect("an address");
        let mut sources: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        if ranges.iter().any(|range| range.contains(&primary)) {
            sources.extend(balancers.iter().map(ToString::to_string));
        }
        (!sources.is_empty()).then(|| sources.join(", "))
    }

    fn endpoint_chains(
        &mut self,
        name: &str,
        service: &Service,
        port: &Port,
        cluster: &[SocketAddr],
        local: &[SocketAddr],
    ) {
        let ip = self.ip;
        let all: BTreeSet<SocketAddr> = cluster.iter().chain(local).copied().collect();
        for endpoint in all {
            let mut rules = vec![format!("{ip} saddr {} jump mark-for-masquerade", endpoint.ip())];
            if service.affinity {
                let (set, kind) =
                    (affinity(name, &endpoint), if self.v4 { "ipv4_addr" } else { "ipv6_addr" });
                let _ = writeln!(
                    self.chains,
                    "set {set} {{ type {kind}; flags dynamic,timeout; timeout 10800s; }}"
                );
                rules.push(format!("update @{set} {{ {ip} saddr }}"));
            }
            rules.push(format!("meta l4proto {} dnat to {endpoint}", port.protocol.name()));
            self.chain(&endpoint_chain(name, &endpoint), &rules);
        }
    }

    fn text(&self) -> String {
        let Self { ip, chains, .. } = self;
        let address = if self.v4 { "ipv4_addr" } else { "ipv6_addr" };
        let key = format!("{address} . inet_proto . inet_service");
        let map = |name: &str, key: &str, elements: &[String]| {
            let elements = match elements {
                [] => String::new(),
                some => format!("elements = {{ {} }}", some.join(", ")),
            };
            format!("map {name} {{ type {key} : verdict; {elements} }}\n")
        };
        let maps = [
            map("firewall-ips", &key, &self.firewall),
            map("service-ips", &key, &self.services),
            map("no-endpoint-services", &key, &self.no_endpoint_services),
            map("service-nodeports", "inet_proto . inet_service", &self.node_ports),
            map("no-endpoint-nodeports", "inet_proto . inet_service", &self.no_endpoint_node_ports),
        ]
        .concat();
        let cluster_ips = match self.cluster_ips.iter().cloned().collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => String::new(),
            some => format!("{ip} daddr {{ {some} }} reject"),
        };
        let node = self.node_port_addresses();
        let service_range = SERVICE_RANGES[usize::from(!self.v4)];
        format!(
            "table {ip} proxy {{
chain reject-chain {{ reject; }}
chain mark-for-masquerade {{ mark set mark or 0x4000; }}
{chains}{maps}
chain firewall-check {{ {ip} daddr . meta l4proto . th dport vmap @firewall-ips; }}
chain services {{
    {ip} daddr . meta l4proto . th dport vmap @service-ips
    {node} meta l4proto . th dport vmap @service-nodeports
}}
chain service-endpoints-check {{ {ip} daddr . meta l4proto . th dport vmap @no-endpoint-services; }}
chain nodeport-endpoints-check {{ {node} meta l4proto . th dport vmap @no-endpoint-nodeports; }}
chain cluster-ips-check {{
    {cluster_ips}
    {ip} daddr {service_range} drop
}}
chain masquerading {{
    mark and 0x4000 == 0 return
    mark set mark xor 0x4000
    masquerade fully-random
}}
chain filter-prerouting-pre-dnat {{ type filter hook prerouting priority -110; ct state new jump firewall-check; }}
chain filter-output-pre-dnat {{ type filter hook output priority -110; ct state new jump firewall-check; }}
chain nat-prerouting {{ type nat hook prerouting priority -100; jump services; }}
chain nat-output {{ type nat hook output priority -100; jump services; }}
chain nat-postrouting {{ type nat hook postrouting priority 100; jump masquerading; }}
chain filter-forward {{
    type filter hook forward priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
}}
chain filter-input {{
    type filter hook input priority 0
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
}}
chain filter-output {{
    type filter hook output priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
}}
}}
"
        )
    }

    /// What holds for destinations that serve node ports.
    fn node_port_addresses(&self) -> String {
        let family = usize::from(!self.v4);
        let own = NODE.map(|addresses| addresses[family]);
        let listed = self.cluster.node_port_addresses.iter();
        let listed: Vec<IpNet> = listed
            .map(|range| range.parse::<IpNet>().expect("a range"))
            .filter(|range| range.addr().is_ipv4() == self.v4)
            .collect();
        let loopback = if self.v4 { "127.0.0.0/8" } else { "::1" };
        if self.cluster.node_port_addresses.is_empty() {
            return format!("{} daddr {}", self.ip, own[0]);
        }
        if listed.is_empty() || listed.iter().any(|range| range.prefix_len() == 0) {
            return format!("fib daddr type local {} daddr != {loopback}", self.ip);
        }
        let inside = |address: &&&str| {
            let address: IpAddr = address.parse().expect("an address");
            listed.iter().any(|range| range.contains(&address))
        };
        match own.iter().filter(inside).copied().collect::<Vec<_>>().join(", ") {
            // An empty set.
            none if none.is_empty() => format!("{} daddr {loopback}", self.ip),
            some => format!("{} daddr {{ {some} }}", self.ip),
        }
    }
}

/// The end of a policy's chain.
fn choice(ip: &str, name: &str, has_affinity: bool, list: &[SocketAddr]) -> Vec<String> {
    let mut rules = Vec::new();
    if has_affinity {
        rules.extend(list.iter().map(|endpoint| {
            format!(
                "{ip} saddr @{} goto {}",
                affinity(name, endpoint),
                endpoint_chain(name, endpoint)
            )
        }));
    }
    let numbered = list.iter().enumerate();
    let targets =
        numbered.map(|(n, endpoint)| format!("{n} : goto {}", endpoint_chain(name, endpoint)));
    match targets.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => {}
        targets => rules.push(format!("numgen inc mod {} vmap {{ {targets} }}", list.len())),
    }
    rules
}

fn endpoint_chain(name: &str, endpoint: &SocketAddr) -> String {
    format!("endpoint-{name}-{}", word(endpoint))
}

fn affinity(name: &str, endpoint: &SocketAddr) -> String {
    format!("affinity-{name}-{}", word(endpoint))
}

/// Letters and digits only.
fn word(endpoint: &SocketAddr) -> String {
    endpoint.to_string().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
