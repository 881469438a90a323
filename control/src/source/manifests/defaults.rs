//! Fields that an API server would fill in, for objects that never saw one.
//!
//! People write Services without cluster IPs and node ports. Here they get them by a hash of their name, so that every
//! gateway that reads the same files gives out the same numbers; a number stays with its Service while that exists.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use crate::object::{ObjectName, Reason, address};

/// Where cluster IPs come from when neither `services.serviceCIDRs` nor a ServiceCIDR object names a range.
pub const DEFAULT_SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// The API's default range of node ports: first and number.
const NODE_PORTS: (u16, u16) = (30_000, 2768);
/// Probing ends there: a range with so many taken neighbours is too small.
const MAX_PROBES: u64 = 65_536;

/// A Service and a family (whether IPv4) of its cluster IPs.
type IpSlot = (ObjectName, bool);
/// A Service and the name and protocol of one of its ports.
type PortSlot = (ObjectName, String, String);

/// Something to report: Service, field, reason.
pub(super) type Complaint = (ObjectName, String, Reason);

/// Hands out cluster IPs and node ports, and remembers who has which.
#[derive(Debug)]
pub(super) struct Allocator {
    configured: Vec<IpNet>,
    /// In use.
    ranges: Vec<IpNet>,
    ips: BTreeMap<IpSlot, IpAddr>,
    node_ports: BTreeMap<PortSlot, u16>,
}

/// The cluster IPs of a Service: those written, and the families there should be, the first one first (DUA-4).
struct Plan {
    written: Vec<IpAddr>,
    families: Vec<bool>,
}

impl Allocator {
    /// From these configured ranges, if there are any.
    pub(super) fn new(service_cidrs: &[IpNet]) -> Self {
        let mut allocator = Self {
            configured: service_cidrs.to_vec(),
            ranges: Vec::new(),
            ips: BTreeMap::new(),
            node_ports: BTreeMap::new(),
        };
        allocator.set_objects_ranges(Vec::new());
        allocator
    }

    /// Says which ranges ServiceCIDR objects name: they count when none are configured, and [`DEFAULT_SERVICE_CIDRS`] when
    /// there are none either. Whoever has a cluster IP keeps it.
    pub(super) fn set_objects_ranges(&mut self, named: Vec<IpNet>) {
        let defaults =
            || DEFAULT_SERVICE_CIDRS.iter().filter_map(|text| address::parse_net(text).ok());
        self.ranges = match (&self.configured[..], named) {
            ([], named) if named.is_empty() => defaults().collect(),
            ([], named) => named,
            (configured, _) => configured.to_vec(),
        };
    }

    /// Completes all Services there are. In order of names, so the outcome depends on nothing else.
    pub(super) fn complete(
        &mut self,
        services: &mut BTreeMap<ObjectName, Service>,
    ) -> Vec<Complaint> {
        let mut complaints = self.complete_ips(services);
        complaints.append(&mut self.complete_node_ports(services));
        complaints
    }

    fn complete_ips(&mut self, services: &mut BTreeMap<ObjectName, Service>) -> Vec<Complaint> {
        let plan = |(name, service): (&ObjectName, &Service)| {
            Some((name.clone(), self.plan(service.spec.as_ref()?)?))
        };
        let plans: BTreeMap<ObjectName, Plan> = services.iter().filter_map(plan).collect();
        let mut taken: HashSet<IpAddr> =
            plans.values().flat_map(|plan| &plan.written).copied().collect();
        let slots: BTreeSet<IpSlot> = plans
            .iter()
            .flat_map(|(name, plan)| plan.missing().map(|v4| (name.clone(), v4)))
            .collect();
        // Whoever has one keeps it, unless somebody wrote it down for himself.
        self.ips.retain(|slot, ip| slots.contains(slot) && taken.insert(*ip));
        let mut complaints = Vec::new();
        for slot in slots {
            if self.ips.contains_key(&slot) {
                continue;
            }
            match self.free_ip(&slot, &taken) {
                Some(ip) => {
                    taken.insert(ip);
                    self.ips.insert(slot, ip);
                }
                None => {
                    let family = if slot.1 { "IPv4" } else { "IPv6" };
                    let why = format!(
                        "no free {family} cluster IP: add a range to services.serviceCIDRs or write one"
                    );
                    complaints.push((slot.0, "spec.clusterIPs".into(), Reason::Missing(why)));
                }
            }
        }
        for (name, plan) in plans {
            let ip_of = |v4: &bool| {
                let written = plan.written.iter().find(|ip| ip.is_ipv4() == *v4);
                written.or_else(|| self.ips.get(&(name.clone(), *v4))).copied()
            };
            let ips: Vec<IpAddr> = plan.families.iter().filter_map(ip_of).collect();
            if let Some(spec) = services.get_mut(&name).and_then(|service| service.spec.as_mut()) {
                fill_ips(spec, &ips);
            }
        }
        complaints
    }

    /// `None` for a Service that has no use for cluster IPs, or whose own can't be read: that is reported elsewhere.
    fn plan(&self, spec: &ServiceSpec) -> Option<Plan> {
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let some = |text: &&String| !text.is_empty();
        let single: Vec<&String> = spec.cluster_ip.iter().filter(some).collect();
        let many: Vec<&String> = spec.cluster_ips.iter().flatten().filter(some).collect();
        let families = spec.ip_families.as_deref().unwrap_or_default();
        let policy = spec.ip_family_policy.as_deref();
        let dual = matches!(policy, Some("PreferDualStack" | "RequireDualStack"));
        // No API server takes two without being asked for both families: then only the single one counts (OBJ-5).
        let only_single = many.is_empty() || (families.is_empty() && !dual && !single.is_empty());
        let texts = if only_single { single } else { many.clone() };
        let written: Vec<IpAddr> =
            texts.into_iter().map(|text| address::parse_ip(text).ok()).collect::<Option<_>>()?;
        // Who writes addresses and families, or a list of addresses, shows what an API server has stored: it is complete.
        let complete = !written.is_empty() && (!families.is_empty() || !many.is_empty());
        let mut families: Vec<bool> = match families {
            [_, ..] => families.iter().map(|family| family == "IPv4").collect(),
            [] if written.is_empty() => vec![self.ranges.first()?.addr().is_ipv4()],
            [] => written.iter().map(IpAddr::is_ipv4).collect(),
        };
        if complete {
            families.retain(|v4| written.iter().any(|ip| ip.is_ipv4() == *v4));
        } else if let ([only], true) = (&families[..], dual) {
            let other = !only;
            let has_range = self.ranges.iter().any(|net| net.addr().is_ipv4() == other);
            if has_range || policy == Some("RequireDualStack") {
                families.push(other);
            }
        }
        Some(Plan { written, families })
    }

    fn free_ip(&self, (name, v4): &IpSlot, taken: &HashSet<IpAddr>) -> Option<IpAddr> {
        let range = self.ranges.iter().find(|net| net.addr().is_ipv4() == *v4)?;
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(63);
        // Neither the network's own address nor the last one.
        let usable = (1u64 << host_bits).checked_sub(2).filter(|usable| *usable > 0)?;
        let first = hash(name.as_str()) % usable;
        let nth = |n: u64| match range {
            IpNet::V4(net) => {
                u32::try_from(n).ok().map(|n| IpAddr::V4((net.network().to_bits() + n).into()))
            }
            IpNet::V6(net) => Some(IpAddr::V6((net.network().to_bits() + u128::from(n)).into())),
        };
        let candidates =
            (0..usable.min(MAX_PROBES)).filter_map(|probe| nth(1 + (first + probe) % usable));
        candidates.into_iter().find(|ip| !taken.contains(ip))
    }

    fn complete_node_ports(
        &mut self,
        services: &mut BTreeMap<ObjectName, Service>,
    ) -> Vec<Complaint> {
        let mut taken: HashSet<(String, u16)> = HashSet::new();
        let mut complaints = Vec::new();
        for (name, service) in services.iter().filter(|(_, service)| wants_node_ports(service)) {
            for (i, port) in ports(service).enumerate() {
                let Some(number) =
                    port.node_port.and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
                else {
                    continue;
                };
                taken.insert((protocol(port), number));
                if !(NODE_PORTS.0..NODE_PORTS.0 + NODE_PORTS.1).contains(&number) {
                    let why = format!(
                        "{number} is served as written, but an API server with the default range 30000-32767 refuses it"
                    );
                    complaints.push((
                        name.clone(),
                        format!("spec.ports[{i}].nodePort"),
                        Reason::Note(why),
                    ));
                }
            }
        }
        let slots: BTreeSet<PortSlot> = services
            .iter()
            .filter(|(_, service)| wants_node_ports(service))
            .flat_map(|(name, service)| {
                ports(service).filter(|p| p.lacks_node_port()).map(|p| slot(name, p))
            })
            .collect();
        self.node_ports
            .retain(|slot, number| slots.contains(slot) && taken.insert((slot.2.clone(), *number)));
        for slot in slots {
            if self.node_ports.contains_key(&slot) {
                continue;
            }
            let first =
                hash(&format!("{}:{}:{}", slot.0, slot.1, slot.2)) % u64::from(NODE_PORTS.1);
            let first = u16::try_from(first).unwrap_or_default();
            let mut candidates =
                (0..NODE_PORTS.1).map(|probe| NODE_PORTS.0 + (first + probe) % NODE_PORTS.1);
            if let Some(number) =
                candidates.find(|number| !taken.contains(&(slot.2.clone(), *number)))
            {
                taken.insert((slot.2.clone(), number));
                self.node_ports.insert(slot, number);
            } else {
                let why = "all node ports from 30000 to 32767 are taken: write one".to_owned();
                complaints.push((slot.0, "spec.ports".into(), Reason::Missing(why)));
            }
        }
        for (name, service) in services.iter_mut().filter(|(_, service)| wants_node_ports(service))
        {
            let ports = service.spec.iter_mut().flat_map(|spec| spec.ports.iter_mut().flatten());
            for port in ports.filter(|port| port.lacks_node_port()) {
                port.node_port =
                    self.node_ports.get(&slot(name, port)).map(|number| i32::from(*number));
            }
        }
        complaints
    }
}

impl Plan {
    fn missing(&self) -> impl Iterator<Item = bool> {
        let written = |v4: &bool| self.written.iter().any(|ip| ip.is_ipv4() == *v4);
        self.families.iter().copied().filter(move |v4| !written(v4))
    }
}

trait LacksNodePort {
    fn lacks_node_port(&self) -> bool;
}

impl LacksNodePort for ServicePort {
    fn lacks_node_port(&self) -> bool {
        self.node_port.is_none_or(|number| number == 0)
    }
}

fn fill_ips(spec: &mut ServiceSpec, ips: &[IpAddr]) {
    let Some(first) = ips.first() else { return };
    let family = |ip: &IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    spec.cluster_ip = Some(first.to_string());
    spec.cluster_ips = Some(ips.iter().map(ToString::to_string).collect());
    spec.ip_families = Some(ips.iter().map(|ip| family(ip).to_owned()).collect());
}

fn wants_node_ports(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    })
}

fn ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.iter().flat_map(|spec| spec.ports.iter().flatten())
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.clone().unwrap_or_else(|| "TCP".into())
}

fn slot(name: &ObjectName, port: &ServicePort) -> PortSlot {
    // Unnamed ports are told apart by their number.
    let port_name = port.name.clone().unwrap_or_else(|| port.port.to_string());
    (name.clone(), port_name, protocol(port))
}

/// FNV-1a: the same on every machine and in every release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(specs: &[(&str, &str)]) -> BTreeMap<ObjectName, Service> {
        let service = |(name, spec): &(&str, &str)| {
            let yaml = format!("{{metadata: {{name: {name}}}, spec: {spec}}}");
            (ObjectName::new("default", name), serde_saphyr::from_str(&yaml).expect("readable"))
        };
        specs.iter().map(service).collect()
    }

    fn spec<'a>(services: &'a BTreeMap<ObjectName, Service>, name: &str) -> &'a ServiceSpec {
        services[&ObjectName::new("default", name)].spec.as_ref().expect("given")
    }

    fn complete(
        allocator: &mut Allocator,
        specs: &[(&str, &str)],
    ) -> (BTreeMap<ObjectName, Service>, Vec<Complaint>) {
        let mut services = services(specs);
        let complaints = allocator.complete(&mut services);
        (services, complaints)
    }

    #[test]
    fn cluster_ips_are_the_same_everywhere_and_stay() {
        let mut allocator = Allocator::new(&[]);
        let (first, complaints) = complete(&mut allocator, &[("a", "{}"), ("b", "{}")]);
        assert!(complaints.is_empty());
        let ip = spec(&first, "a").cluster_ip.clone().expect("given");
        let range: IpNet = DEFAULT_SERVICE_CIDRS[0].parse().expect("valid");
        assert!(range.contains(&ip.parse::<IpAddr>().expect("an address")));
        assert_ne!(Some(&ip), spec(&first, "b").cluster_ip.as_ref());
        let (alone, _) = complete(&mut Allocator::new(&[]), &[("a", "{}")]);
        assert_eq!(spec(&alone, "a"), spec(&first, "a"), "another gateway says the same");
        // Someone who writes the address down gets it; the former holder moves.
        let (moved, _) =
            complete(&mut allocator, &[("a", "{}"), ("z", &format!("{{clusterIP: {ip}}}"))]);
        assert_eq!(spec(&moved, "z").cluster_ip, Some(ip.clone()));
        assert_ne!(spec(&moved, "a").cluster_ip, Some(ip));
    }

    #[test]
    fn a_full_range_is_reported_and_holders_keep_theirs() {
        let range = ["10.0.0.0/30".parse().expect("valid")];
        let mut allocator = Allocator::new(&range);
        let (before, _) = complete(&mut allocator, &[("m", "{}"), ("n", "{}")]);
        let (after, complaints) =
            complete(&mut allocator, &[("a", "{}"), ("m", "{}"), ("n", "{}")]);
        assert_eq!(spec(&after, "m"), spec(&before, "m"));
        assert_eq!(spec(&after, "n"), spec(&before, "n"));
        assert_eq!((complaints.len(), &complaints[0].0), (1, &ObjectName::new("default", "a")));
    }

    #[test]
    fn dua_4_families_follow_the_policy() {
        for (written, families) in [
            ("{}", "IPv4"),
            ("{ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]}", "IPv6"),
            ("{ipFamilyPolicy: PreferDualStack}", "IPv4 IPv6"),
            ("{ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6]}", "IPv6 IPv4"),
            ("{ipFamilies: [IPv6, IPv4]}", "IPv6 IPv4"),
            ("{clusterIP: 'fd00::7', ipFamilyPolicy: PreferDualStack}", "IPv6 IPv4"),
            // Written addresses with families, or a list of them, are complete.
            (
                "{clusterIPs: [10.96.0.7], ipFamilies: [IPv4], ipFamilyPolicy: PreferDualStack}",
                "IPv4",
            ),
            ("{clusterIP: 10.96.0.7, ipFamilies: [IPv4], ipFamilyPolicy: PreferDualStack}", "IPv4"),
            ("{clusterIPs: [10.96.0.7, 'fd00::7'], ipFamilyPolicy: RequireDualStack}", "IPv4 IPv6"),
            ("{clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7, 'fd00::7']}", "IPv4"),
            ("{clusterIP: '', clusterIPs: ['']}", "IPv4"),
            ("{clusterIP: None}", ""),
            ("{type: ExternalName}", ""),
        ] {
            let (services, complaints) = complete(&mut Allocator::new(&[]), &[("a", written)]);
            let spec = spec(&services, "a");
            assert_eq!(
                spec.ip_families.clone().unwrap_or_default().join(" "),
                families,
                "{written}"
            );
            if !families.is_empty() {
                assert_eq!(
                    spec.cluster_ips.as_ref().map(Vec::len),
                    spec.ip_families.as_ref().map(Vec::len)
                );
            }
            assert!(complaints.is_empty());
        }
        let v4_only = ["10.0.0.0/24".parse().expect("valid")];
        let (services, complaints) =
            complete(&mut Allocator::new(&v4_only), &[("a", "{ipFamilyPolicy: RequireDualStack}")]);
        assert_eq!(spec(&services, "a").ip_families.as_ref().map(Vec::len), Some(1));
        assert_eq!(complaints.len(), 1);
    }

    #[test]
    fn npt_9_node_ports_are_given_where_none_is_written() {
        let (services, complaints) = complete(
            &mut Allocator::new(&[]),
            &[
                ("a", "{type: NodePort, ports: [{port: 80, nodePort: 80}]}"),
                (
                    "b",
                    "{type: NodePort, ports: [{port: 53, name: t}, {port: 53, name: u, protocol: UDP, nodePort: 0}]}",
                ),
                (
                    "c",
                    "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}",
                ),
                ("d", "{ports: [{port: 80}]}"),
            ],
        );
        let numbers = |name| -> Vec<Option<i32>> {
            spec(&services, name).ports.iter().flatten().map(|port| port.node_port).collect()
        };
        assert_eq!(numbers("a"), [Some(80)]);
        assert!(
            numbers("b").iter().all(|number| (30_000..=32_767).contains(&number.expect("given")))
        );
        assert_eq!((numbers("c"), numbers("d")), (vec![None], vec![None]));
        let [(name, field, Reason::Note(why))] = &complaints[..] else { panic!("{complaints:?}") };
        assert_eq!((name.name(), field.as_str()), ("a", "spec.ports[0].nodePort"));
        assert!(why.starts_with("80 is served as written"));
    }
}
