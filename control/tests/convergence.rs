//! The table is a function of the objects, not of the way that led to them (OBJ-12, OBJ-13, OBJ-14).

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use control::assembly::Assembly;
use control::object::{Kind, Node, Object, ObjectKey, Service, ServiceCidr, Slice};
use control::source::{Change, Event};
use proptest::prelude::*;
use support::{assembly, problems, rows, settings};

/// A step: what a source may say, in any order.
#[derive(Clone, Debug)]
enum Step {
    Apply(Box<Object>),
    Delete(ObjectKey),
    /// A relist of a kind: those of the known objects whose bit is set.
    Reset(Kind, u32),
    /// So many milliseconds later everything so far is published, but for what may be on its way (EPS-8).
    Build(u64),
}

/// Few names, ports and addresses, so that Services contest them and slices wander between Services.
fn service() -> impl Strategy<Value = Object> {
    let port = prop_oneof![Just(80), Just(443)];
    let kind = prop_oneof![
        Just("ClusterIP"),
        Just("NodePort"),
        Just("LoadBalancer"),
        Just("ExternalName")
    ];
    let vips = prop::sample::subsequence(vec!["192.0.2.1", "192.0.2.2", "2001:db8::1"], 0..3);
    (0..4u8, port, kind, vips.clone(), vips, 0..3i64, any::<[bool; 3]>(), 30_000..30_002).prop_map(
        |(n, port, kind, external, ingress, created, [internal, local, dual], node_port)| {
            let policy = |local| if local { "Local" } else { "Cluster" };
            let node_port = if matches!(kind, "NodePort" | "LoadBalancer") { node_port } else { 0 };
            let ips = if dual { format!("10.96.0.{n}, 'fd00::{n}'") } else { format!("10.96.0.{n}") };
            let families = if dual { "IPv4, IPv6" } else { "IPv4" };
            let quoted = |ips: Vec<&str>| ips.iter().map(|ip| format!("'{ip}'")).collect::<Vec<_>>().join(", ");
            let ingress: Vec<String> = ingress.iter().map(|ip| format!("{{ip: '{ip}'}}")).collect();
            let yaml = format!(
                "{{metadata: {{name: s{n}, creationTimestamp: '2026-01-01T00:00:0{created}Z'}},
                   spec: {{type: {kind}, clusterIP: 10.96.0.{n}, clusterIPs: [{ips}], ipFamilies: [{families}], externalIPs: [{}],
                     ports: [{{name: http, port: {port}, nodePort: {node_port}}}], internalTrafficPolicy: {}, externalTrafficPolicy: {}}},
                   status: {{loadBalancer: {{ingress: [{}]}}}}}}",
                quoted(external),
                policy(internal),
                policy(local),
                ingress.join(", "),
            );
            let service = serde_saphyr::from_str(&yaml).expect("readable");
            Object::Service(Service::parse(&service).expect("named").object)
        },
    )
}

fn slice() -> impl Strategy<Value = Object> {
    let endpoint = (0..4u8, any::<[bool; 3]>(), 0..3u8);
    (0..5u8, 0..4u8, any::<bool>(), prop::collection::vec(endpoint, 0..4)).prop_map(|(n, of, v4, endpoints)| {
        let endpoint = |(host, [ready, serving, terminating], node): &(u8, [bool; 3], u8)| {
            let address = if v4 { format!("10.0.0.{}", host + 1) } else { format!("fd01::{}", host + 1) };
            format!(
                "{{addresses: ['{address}'], nodeName: n{node}, conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}, hints: {{forZones: [{{name: z{node}}}]}}}}"
            )
        };
        let endpoints: Vec<String> = endpoints.iter().map(endpoint).collect();
        let yaml = format!(
            "{{metadata: {{name: e{n}, labels: {{kubernetes.io/service-name: s{of}}}}}, addressType: IPv{},
               endpoints: [{}], ports: [{{name: http, port: 8080}}]}}",
            if v4 { 4 } else { 6 },
            endpoints.join(", ")
        );
        let slice = serde_saphyr::from_str(&yaml).expect("readable");
        Object::Slice(Slice::parse(&slice).expect("named").object)
    })
}

/// Of the node itself and of another; with the zones that endpoints are hinted for.
fn node() -> impl Strategy<Value = Object> {
    (1..3u8, 0..3u8, 0..3u8).prop_map(|(n, zone, address)| {
        let yaml = format!(
            "{{metadata: {{name: n{n}, labels: {{topology.kubernetes.io/zone: z{zone}}}}}, status: {{addresses: [{{type: InternalIP, address: 192.0.2.20{address}}}]}}}}"
        );
        let node = serde_saphyr::from_str(&yaml).expect("readable");
        Object::Node(Node::parse(&node).expect("named").object)
    })
}

fn ranges() -> impl Strategy<Value = Object> {
    (0..2u8, 0..3u8).prop_map(|(n, range)| {
        let yaml = format!("{{metadata: {{name: r{n}}}, spec: {{cidrs: [10.{range}.0.0/24]}}}}");
        let ranges = serde_saphyr::from_str(&yaml).expect("readable");
        Object::ServiceCidr(ServiceCidr::parse(&ranges).expect("named").object)
    })
}

fn step() -> impl Strategy<Value = Step> {
    let object = || prop_oneof![4 => service(), 4 => slice(), 1 => node(), 1 => ranges()];
    let kind =
        prop::sample::select(&[Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr]);
    prop_oneof![
        6 => object().prop_map(|object| Step::Apply(Box::new(object))),
        2 => object().prop_map(|object| Step::Delete(object.key())),
        1 => (kind, any::<u32>()).prop_map(|(kind, some)| Step::Reset(kind, some)),
        2 => (0..30u64).prop_map(Step::Build),
    ]
}

fn fresh() -> Assembly {
    let mut assembly = assembly(settings("{nodeName: n1}"));
    for kind in [Kind::Service, Kind::EndpointSlice] {
        let empty = Event::Reset { kind, objects: Vec::new(), unreadable: Vec::new() };
        assembly.take(empty, Instant::now());
    }
    assembly
}

/// All that a worker could ask of the table, and what an operator is told.
fn everything(assembly: &Assembly) -> (Vec<String>, Vec<String>) {
    let table = assembly.writer().table();
    let mut seen = rows(assembly);
    seen.extend(table.vips().map(|(ip, vip)| format!("{ip} {vip:?}")));
    seen.extend(table.endpoints().map(|(at, protocol)| format!("{at} {protocol:?}")));
    for (ip, _) in table.vips() {
        for port in [80, 443] {
            let found = table.find(ip.into(), port, dataplane::flow::Protocol::Tcp);
            seen.extend(found.map(|found| format!("{ip} {port} {}", found.row().name)));
        }
    }
    for (v4, port) in [(true, 30_000), (true, 30_001), (false, 30_000), (false, 30_001)] {
        let found = table.find_node_port(v4, port, dataplane::flow::Protocol::Tcp);
        seen.extend(found.map(|found| format!("{v4} {port} {}", found.row().name)));
    }
    seen.push(format!("{:?}", assembly.sizes()));
    seen.push(format!("{:?}", assembly.settings()));
    seen.sort();
    (seen, problems(assembly))
}

proptest! {
    #[test]
    fn obj_13_the_way_does_not_matter(steps in prop::collection::vec(step(), 1..60)) {
        let mut walked = fresh();
        let mut now = Instant::now();
        let mut known: BTreeMap<ObjectKey, Object> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Apply(object) => {
                    known.insert(object.key(), (*object).clone());
                    walked.take(Event::Apply(Change::of(*object)), now);
                }
                Step::Delete(key) => {
                    known.remove(&key);
                    walked.take(Event::Delete(key), now);
                }
                Step::Reset(kind, some) => {
                    let mut bits = some;
                    known.retain(|key, _| {
                        bits = bits.rotate_right(1);
                        key.kind != kind || bits & 1 == 1
                    });
                    let listed = known.iter().filter(|(key, _)| key.kind == kind);
                    let objects = listed.map(|(_, object)| Change::of(object.clone())).collect();
                    walked.take(Event::Reset { kind, objects, unreadable: Vec::new() }, now);
                }
                Step::Build(millis) => {
                    now += Duration::from_millis(millis);
                    walked.build(now);
                }
            }
        }
        walked.build_all();
        let mut direct = fresh();
        for object in known.values() {
            direct.take(Event::Apply(Change::of(object.clone())), now);
        }
        direct.build_all();
        prop_assert_eq!(everything(&walked), everything(&direct));

        // OBJ-12: saying the same again is no news.
        for object in known.into_values() {
            walked.take(Event::Apply(Change::of(object)), now);
        }
        prop_assert!(walked.build_all().is_none());
    }
}

#[test]
fn a_change_of_settings_compiles_everything_anew() {
    let mut assembly = fresh();
    let service = "{metadata: {name: a}, spec: {clusterIP: 10.96.0.1, internalTrafficPolicy: Local, ports: [{name: http, port: 80}]}}";
    let slice = "{metadata: {name: a-x, labels: {kubernetes.io/service-name: a}}, addressType: IPv4,
                  endpoints: [{addresses: [10.0.0.1], nodeName: n1}, {addresses: [10.0.0.2], nodeName: n2}], ports: [{name: http, port: 8080}]}";
    let service =
        Service::parse(&serde_saphyr::from_str(service).expect("readable")).expect("named");
    let slice = Slice::parse(&serde_saphyr::from_str(slice).expect("readable")).expect("named");
    for object in [Object::Service(service.object), Object::Slice(slice.object)] {
        assembly.take(Event::Apply(Change::of(object)), Instant::now());
    }
    assert!(assembly.build_all().is_some());
    assert_eq!(rows(&assembly), ["default/a:http/tcp 10.96.0.1:80 ->  | 10.0.0.1:8080"]);
    assembly.set_settings(settings("{nodeName: n2}"));
    assert!(assembly.build_all().is_some());
    assert_eq!(rows(&assembly), ["default/a:http/tcp 10.96.0.1:80 ->  | 10.0.0.2:8080"]);
    assembly.set_settings(settings("{nodeName: n2}"));
    assert!(assembly.build_all().is_none());
}
