//! Every cell of the table of verdicts, with every mixture of endpoints: what the rules of selection (SEL), verdict (VER),
//! masquerade (MSQ), refusal (REJ) and draining (TRM) say when they are written down once more, in a few lines.

use crate::world::world;

/// Where an endpoint is, and in which state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Here,
    There,
    HereDraining,
    ThereDraining,
    /// Not ready, and not going: never used (SEL-8).
    HereUnready,
    /// Going, and no longer serving: never used (TRM-4).
    HereGone,
}
use End::{Here, HereDraining, HereGone, HereUnready, There, ThereDraining};

const MIXTURES: [&[End]; 15] = [
    &[],
    &[Here],
    &[There],
    &[Here, There],
    &[HereDraining],
    &[ThereDraining],
    &[HereDraining, ThereDraining],
    &[There, HereDraining],
    &[Here, HereDraining],
    &[Here, ThereDraining],
    &[HereUnready],
    &[HereGone],
    &[There, HereUnready],
    &[ThereDraining, HereGone],
    &[HereDraining, HereUnready],
];

impl End {
    fn host(self) -> u8 {
        2 + self as u8
    }

    /// As `World::slice` takes it.
    fn written(self, v6: bool) -> String {
        let address = if v6 { "fd00:10::1:" } else { "10.0.1." };
        let rest = match self {
            Here => "@here",
            There => "@there",
            HereDraining => "@here!st",
            ThereDraining => "@there!st",
            HereUnready => "@here!s",
            HereGone => "@here!t",
        };
        format!("{address}{}{rest}", self.host())
    }
}

/// The cluster and the local list (SEL-4, SEL-5).
fn lists(ends: &[End]) -> (Vec<End>, Vec<End>) {
    let of = |states: &[End]| ends.iter().filter(|end| states.contains(end)).copied().collect();
    let or = |first: Vec<End>, second: Vec<End>| if first.is_empty() { second } else { first };
    (
        or(of(&[Here, There]), of(&[HereDraining, ThereDraining])),
        or(of(&[Here]), of(&[HereDraining])),
    )
}

/// What becomes of a flow.
fn expected(ends: &[End], v6: bool, cluster_ip: bool, client: &str, local: [bool; 2]) -> String {
    let (cluster, here) = lists(ends);
    let [internal_local, external_local] = local;
    if cluster.is_empty() {
        return "reject no_endpoints".into();
    }
    let (list, masquerade) = match (cluster_ip, client) {
        (true, _) if internal_local => (here, client != "pod"),
        (true, _) => (cluster, client != "pod"),
        (false, _) if !external_local => (cluster, true),
        (false, "pod") => (cluster, false),
        (false, "node") => (cluster, true),
        (false, _) => (here, false),
    };
    if list.is_empty() {
        let kind = if cluster_ip { "internal" } else { "external" };
        return format!("drop no_local_endpoint_{kind}");
    }
    let star = if masquerade { "*" } else { "" };
    let backend = |end: &End| match v6 {
        true => format!(" [fd00:10::1:{}]:8080{star}", end.host()),
        false => format!(" 10.0.1.{}:8080{star}", end.host()),
    };
    format!("dnat{}", list.iter().map(backend).collect::<String>())
}

/// VER-1, VER-2, VER-3, VER-5, VER-6, VER-7, SEL-4, SEL-5, SEL-6, SEL-7, SEL-8, MSQ-1, REJ-1, REJ-2, REJ-3, TRM-1, TRM-2,
/// TRM-3, TRM-4, NPT-7, XIP-1, DUA-1.
#[test]
fn every_cell_of_the_table_with_every_mixture_of_endpoints() {
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    for v6 in [false, true] {
        let [cluster_ip, external, balancer, node] = match v6 {
            false => ["172.30.0.41", "198.51.100.9", "203.0.113.80", "192.0.2.10"],
            true => ["fd00:30::41", "2001:db8:1::9", "2001:db8:2::80", "fd00:2::10"],
        };
        for protocol in ["tcp", "udp", "sctp"] {
            for (ends, local) in MIXTURES.iter().flat_map(|ends| {
                let policies = [[false, false], [false, true], [true, false], [true, true]];
                policies.map(|policies| (ends, policies))
            }) {
                let upper = protocol.to_uppercase();
                let spec = format!(
                    "type: LoadBalancer, clusterIP: '{cluster_ip}', externalIPs: ['{external}'], \
                     internalTrafficPolicy: {}, externalTrafficPolicy: {}, \
                     ports: [{{name: http, port: 80, nodePort: 30080, protocol: {upper}}}]",
                    policy(local[0]),
                    policy(local[1]),
                );
                let slice: Vec<String> = ends.iter().map(|end| end.written(v6)).collect();
                let port = format!("{{name: http, port: 8080, protocol: {upper}}}");
                let world = world()
                    .balanced("web", &spec, &format!("{{ip: '{balancer}'}}"))
                    .slice_at("web", &port, &slice.join(" "));
                let at = |ip: &str, port| match v6 {
                    true => format!("[{ip}]:{port}"),
                    false => format!("{ip}:{port}"),
                };
                let destinations = [
                    (true, at(cluster_ip, 80)),
                    (false, at(external, 80)),
                    (false, at(balancer, 80)),
                    (false, at(node, 30_080)),
                ];
                let rows: Vec<(String, String)> = ["pod", "node", "outside"]
                    .iter()
                    .flat_map(|client| {
                        destinations.iter().map(move |(is_cluster_ip, to)| {
                            (
                                format!("{protocol} {client} -> {to}"),
                                expected(ends, v6, *is_cluster_ip, client, local),
                            )
                        })
                    })
                    .collect();
                let rows: Vec<(&str, &str)> =
                    rows.iter().map(|(flow, expected)| (&**flow, &**expected)).collect();
                world.check(&rows);
            }
        }
    }
}
