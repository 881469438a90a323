//! Each row of a table: a Service, its endpoints, and what the lists must be.

use super::*;
use crate::object::service;

/// A Service with port 80 called `http`; `spec` adds to or replaces the usual fields.
fn service(spec: &str, status: &str) -> Service {
    let mut usual =
        serde_json::json!({"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]});
    let more: serde_json::Value = serde_saphyr::from_str(&format!("{{{spec}}}")).expect("readable");
    for (key, value) in more.as_object().expect("a map") {
        usual[key] = value.clone();
    }
    let status: serde_json::Value =
        serde_saphyr::from_str(&format!("{{{status}}}")).expect("readable");
    let metadata = serde_json::json!({"namespace": "demo", "name": "web"});
    let whole = serde_json::json!({"metadata": metadata, "spec": usual, "status": status});
    let parsed = Service::parse(&serde_json::from_value(whole).expect("readable")).expect("named");
    assert_eq!(parsed.problems, []);
    parsed.object
}

const EXTERNAL: &str = "type: NodePort, ports: [{name: http, port: 80, nodePort: 30080}]";

/// Endpoints as `address[@node][:flags][/zone,...][#node,...]`; flags are r(eady), s(erving), t(erminating), `rs` if
/// left out. All on port 8080.
fn slice(name: &str, v4: bool, endpoints: &str) -> Slice {
    let endpoints = endpoints.split_whitespace().map(|text| {
        let (text, nodes) = text.split_once('#').unwrap_or((text, ""));
        let (text, zones) = text.split_once('/').unwrap_or((text, ""));
        let (text, flags) =
            if v4 { text.split_once(':').unwrap_or((text, "rs")) } else { (text, "rs") };
        let (address, node) = text.split_once('@').unwrap_or((text, ""));
        let hints =
            |text: &str| text.split(',').filter(|hint| !hint.is_empty()).map(Arc::from).collect();
        Endpoint {
            address: address.parse().expect("an address"),
            ready: flags.contains('r'),
            serving: flags.contains('s'),
            terminating: flags.contains('t'),
            node: Some(node).filter(|node| !node.is_empty()).map(Arc::from),
            zone_hints: hints(zones),
            hostname: None,
            node_hints: hints(nodes),
        }
    });
    let port = crate::object::slice::SlicePort {
        name: "http".into(),
        protocol: dataplane::flow::Protocol::Tcp,
        number: 8080,
    };
    Slice {
        headless_label: false,
        uid: None,
        name: crate::object::ObjectName::new("demo", name),
        service: None,
        v4,
        ports: vec![port],
        endpoints: endpoints.collect(),
    }
}

fn settings(yaml: &str) -> Settings {
    serde_saphyr::from_str(&format!("{{{yaml}}}")).expect("valid")
}

fn node() -> Settings {
    settings("nodeName: n1, nodeLabels: {topology.kubernetes.io/zone: a}")
}

/// The last numbers of the addresses in a list.
fn short(list: &[SocketAddr]) -> String {
    let last = |at: &SocketAddr| at.ip().to_string().rsplit(['.', ':']).next().map(str::to_owned);
    list.iter().filter_map(last).collect::<Vec<_>>().join(" ")
}

/// `cluster | local | serving`, and a trailing `!` when the Service has no endpoints. Two Local lists that differ stand
/// behind each other, with a slash between them: the internal one first.
fn lists(service: &Service, endpoints: &str, settings: &Settings) -> String {
    let slices = [slice("s", true, endpoints)];
    let rows = compile(service, slices.iter(), settings);
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let mark = if row.has_endpoints { "" } else { " !" };
    let mut locals: Vec<String> = row.locals().map(short).collect();
    locals.dedup();
    let locals = locals.join(" / ");
    format!("{} | {locals} | {}{mark}", short(&row.cluster), short(&row.serving))
}

#[test]
fn sel_the_two_lists() {
    let internal = "internalTrafficPolicy: Local";
    let external = format!("{EXTERNAL}, externalTrafficPolicy: Local");
    let both = format!("{external}, {internal}");
    let three = "10.0.0.1@n1 10.0.0.2@n2 10.0.0.3";
    for (rule, spec, endpoints, expected) in [
        ("SEL-2 Cluster only", "", three, "1 2 3 |  | "),
        ("SEL-3 iTP Local, not external: no cluster list", internal, three, " | 1 | 2 3"),
        ("SEL-3 eTP Local", &external, three, "1 2 3 | 1 | "),
        (
            "SEL-3 eTP Local ignored without a way in",
            "externalTrafficPolicy: Local",
            three,
            "1 2 3 |  | ",
        ),
        (
            "SEL-2 iTP Local on an external port",
            &format!("{EXTERNAL}, {internal}"),
            three,
            "1 2 3 | 1 | ",
        ),
        ("both Local", &both, three, "1 2 3 | 1 | "),
        ("EPS-6 no local endpoint", &external, "10.0.0.2@n2 10.0.0.3", "2 3 |  | "),
        (
            "SEL-7 iTP Local, endpoints elsewhere: drop, not reject",
            internal,
            "10.0.0.2@n2",
            " |  | 2",
        ),
        ("REJ-1 nothing", "", "", " |  |  !"),
        ("REJ-1 nothing, Local", &both, "", " |  |  !"),
        ("SEL-8 not ready is never used", "", "10.0.0.1:s", " |  | 1 !"),
        (
            "TRM-2 draining ones when none is ready",
            "",
            "10.0.0.1:st 10.0.0.2:s 10.0.0.3:t",
            "1 |  | 2",
        ),
        ("TRM-2 only ready ones while there are any", "", "10.0.0.1:st 10.0.0.2", "2 |  | 1"),
        ("TRM-4 terminating and not serving", "", "10.0.0.1:t", " |  |  !"),
        ("SEL-10 ready wins over terminating", "", "10.0.0.1:rt", "1 |  | "),
        ("SEL-6 fallbacks are independent", &external, "10.0.0.1@n1:st 10.0.0.2@n2", "2 | 1 | "),
        ("TRM-1 ready local ones only", &external, "10.0.0.1@n1:st 10.0.0.2@n1", "2 | 2 | 1"),
        ("TRM-3 a remote draining one: drop, not reject", internal, "10.0.0.2@n2:st", " |  | 2"),
        (
            "CTK-3 serving ignores ready and policy",
            internal,
            "10.0.0.1@n1 10.0.0.2:s 10.0.0.3:st 10.0.0.4:",
            " | 1 | 2 3",
        ),
    ] {
        assert_eq!(lists(&service(spec, ""), endpoints, &node()), expected, "{rule}");
    }
}

#[test]
fn eps_6_without_a_node_name_nothing_is_local() {
    let service = service("internalTrafficPolicy: Local", "");
    assert_eq!(lists(&service, "10.0.0.1@n1 10.0.0.2", &settings("role: node")), " |  | 1 2");
}

#[test]
fn edge_external_local_keeps_the_client_and_takes_any_endpoint() {
    let edge = settings("role: edge, nodeName: n1, nodeLabels: {topology.kubernetes.io/zone: a}");
    let external = format!("{EXTERNAL}, externalTrafficPolicy: Local");
    for (spec, endpoints, expected) in [
        (external.as_str(), "10.0.0.2@n2 10.0.0.3", "2 3 | 2 3 | "),
        (&external, "10.0.0.2@n2:st 10.0.0.3:s", "2 | 2 | 3"),
        // TOP-8: hints never shrink a Local list.
        (&external, "10.0.0.2/a 10.0.0.3/b", "2 | 2 3 | "),
        // Internal Local is as on a node, with a list of its own.
        ("internalTrafficPolicy: Local", "10.0.0.1@n1 10.0.0.2@n2", " | 1 | 2"),
        ("internalTrafficPolicy: Local", "10.0.0.2@n2 10.0.0.3", " |  | 2 3"),
        (
            &format!("{external}, internalTrafficPolicy: Local"),
            "10.0.0.1@n1 10.0.0.2@n2",
            "1 2 | 1 / 1 2 | ",
        ),
    ] {
        assert_eq!(lists(&service(spec, ""), endpoints, &edge), expected, "{spec}");
    }
}

#[test]
fn top_hints_choose_node_then_zone_then_all() {
    for (rule, endpoints, expected) in [
        ("TOP-2", "10.0.0.1#n1 10.0.0.2#n2 10.0.0.3#n1,n2", "1 3"),
        ("TOP-2 needs all", "10.0.0.1#n1 10.0.0.2", "1 2"),
        ("TOP-3", "10.0.0.1/a 10.0.0.2/b 10.0.0.3/b,a", "1 3"),
        ("TOP-3 after node hints for others", "10.0.0.1/a#n2 10.0.0.2/b#n3", "1"),
        ("TOP-4 one without hint", "10.0.0.1/a 10.0.0.2", "1 2"),
        ("TOP-4 none for this zone", "10.0.0.1/b 10.0.0.2/c", "1 2"),
        ("TOP-5 unready ones don't count", "10.0.0.1/a 10.0.0.2/b 10.0.0.3:s", "1"),
        ("SEL-4 no topology for the fallback", "10.0.0.1:st/a 10.0.0.2:st/b", "1 2"),
    ] {
        let lists = lists(&service("", ""), endpoints, &node());
        assert_eq!(lists.split(" | ").next(), Some(expected), "{rule}");
    }
    let unlabelled = settings("nodeName: n1, nodeLabels: {topology.kubernetes.io/zone: ''}");
    assert!(
        lists(&service("", ""), "10.0.0.1/a 10.0.0.2/b", &unlabelled).starts_with("1 2 |"),
        "TOP-4"
    );
    // TOP-8
    let spec = format!("{EXTERNAL}, externalTrafficPolicy: Local");
    assert_eq!(lists(&service(&spec, ""), "10.0.0.1@n1/b 10.0.0.2/a", &node()), "2 | 1 | ");
}

#[test]
fn eps_7_one_endpoint_in_several_slices_counts_once() {
    for (one, other, expected) in [
        ("10.0.0.1", "10.0.0.1 10.0.0.2", "1 2"),
        ("10.0.0.1:t", "10.0.0.1", "1"),
        ("10.0.0.1", "10.0.0.1:st", "1"),
        ("10.0.0.1:", "10.0.0.1", "1"),
    ] {
        for names in [["a", "b"], ["b", "a"]] {
            let slices = [slice(names[0], true, one), slice(names[1], true, other)];
            let rows = compile(&service("", ""), slices.iter(), &node());
            assert_eq!(short(&rows[0].cluster), expected, "{one} and {other}");
        }
    }
}

#[test]
fn eps_11_other_ports_and_protocols_are_no_endpoints() {
    let slices = [slice("s", true, "10.0.0.1")];
    for ports in
        ["[{name: other, port: 80}]", "[{name: http, port: 80, protocol: UDP}]", "[{port: 80}]"]
    {
        let rows = compile(&service(&format!("ports: {ports}"), ""), slices.iter(), &node());
        assert!(!rows[0].has_endpoints, "{ports}");
    }
}

/// `address|np` and class of each frontend, a `*` marking those with a source filter.
fn frontends(row: &ServicePort) -> Vec<String> {
    let text = |frontend: &Frontend| {
        let at = match frontend.at {
            FrontendAt::Address(socket) => socket.to_string(),
            FrontendAt::NodePort { v4, port } => {
                format!("{}:{port}", if v4 { "np4" } else { "np6" })
            }
        };
        let class = if frontend.class == Class::Cluster { "c" } else { "e" };
        let filter = if frontend.allowed_sources.is_empty() { "" } else { "*" };
        format!("{at} {class}{filter}")
    };
    row.frontends.iter().map(text).collect()
}

const INGRESS: &str = "loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: Proxy}, {ip: '2001:db8::1'}]}";

#[test]
fn frontends_of_every_class() {
    let lb = "type: LoadBalancer, ports: [{name: http, port: 80, nodePort: 30080}], externalIPs: [192.0.2.9, 203.0.113.1, '2001:db8::9'], loadBalancerSourceRanges: [198.51.100.0/24]";
    let rows = compile(&service(lb, INGRESS), [].iter(), &node());
    // OBJ-4: no cluster IP of the other family, so no row; LSR-1: only the balancer's address is filtered, even if it
    // is listed as external IP too.
    assert_eq!(rows.len(), 1);
    assert_eq!(
        frontends(&rows[0]),
        ["10.96.0.1:80 c", "203.0.113.1:80 e*", "192.0.2.9:80 e", "np4:30080 e"]
    );
    assert_eq!(&*rows[0].name, "demo/web:http");

    let dual = format!("{lb}, clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv6]");
    let rows = compile(&service(&dual, INGRESS), [].iter(), &node());
    // DUA-5: one node port number on both; LSR-4: ranges of the other family only mean no filter.
    assert_eq!(
        frontends(&rows[1]),
        ["[fd00::1]:80 c", "[2001:db8::1]:80 e", "[2001:db8::9]:80 e", "np6:30080 e"]
    );

    let unnamed = service("ports: [{port: 80}], externalIPs: [192.0.2.9]", "");
    let rows = compile(&unnamed, [].iter(), &node());
    assert_eq!(&*rows[0].name, "demo/web:80");
    assert_eq!(frontends(&rows[0]), ["10.96.0.1:80 c", "192.0.2.9:80 e"], "XIP-1: of any type");
}

#[test]
fn lsr_5_the_node_inside_a_range_lets_the_services_own_addresses_in() {
    let lb =
        "type: LoadBalancer, loadBalancerSourceRanges: [198.51.100.0/24, ' 203.0.113.128/25 ']";
    for (ips, expected) in [
        ("[]", "198.51.100.0/24 203.0.113.128/25"),
        ("[198.51.100.7]", "198.51.100.0/24 203.0.113.1/32 203.0.113.128/25"),
        // Only the primary address counts.
        ("[10.0.0.1, 198.51.100.7]", "198.51.100.0/24 203.0.113.128/25"),
    ] {
        let rows = compile(&service(lb, INGRESS), [].iter(), &settings(&format!("nodeIPs: {ips}")));
        let sources: Vec<_> =
            rows[0].frontends[1].allowed_sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources.join(" "), expected, "{ips}");
    }
}

#[test]
fn dua_1_each_family_has_its_own_endpoints() {
    let dual = service("clusterIPs: [10.96.0.1, 'fd00::1'], ipFamilies: [IPv4, IPv6]", "");
    let slices = [slice("four", true, "10.0.0.1"), slice("six", false, "fd00::8")];
    let rows = compile(&dual, slices.iter(), &node());
    let lists: Vec<String> = rows.iter().map(|row| short(&row.cluster)).collect();
    assert_eq!(lists, ["1", "8"]);
}

#[test]
fn exc_3_a_service_labelled_headless_has_rows_but_no_endpoints() {
    let mut labelled = service("", "");
    labelled.headless_label = true;
    assert_eq!(lists(&labelled, "10.0.0.1", &node()), " |  |  !");
}

#[test]
fn obj_3_skipped_services_have_no_rows() {
    let slices = [slice("s", true, "10.0.0.1")];
    for kind in [
        service::ServiceKind::Headless,
        service::ServiceKind::Unassigned,
        service::ServiceKind::External(String::new()),
    ] {
        let skipped = Service { kind, ..service("", "") };
        assert_eq!(compile(&skipped, slices.iter(), &node()), []);
    }
    let other = Service { other_proxy: true, ..service("", "") };
    assert_eq!(compile(&other, slices.iter(), &node()), []);
}

#[test]
fn xip_4_addresses_that_the_configuration_does_not_allow_are_not_served() {
    let service = service(
        "externalIPs: [192.0.2.1, 198.51.100.1]",
        "loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 192.0.2.2}]}",
    );
    let settings = settings(
        "allowedExternalIPs: [192.0.2.0/24], allowedLoadBalancerIPs: [203.0.113.0/24, '::/0']",
    );
    let rows = compile(&service, [].iter(), &settings);
    let served = frontends(&rows[0]).join("\n");
    for (address, expected) in [
        ("10.96.0.1:80", true),
        ("192.0.2.1:80", true),
        ("198.51.100.1:80", false),
        ("203.0.113.1:80", true),
        ("192.0.2.2:80", false),
    ] {
        assert_eq!(served.contains(address), expected, "{address} in\n{served}");
    }
    let refused: Vec<String> =
        refused(&service, std::iter::empty(), &settings).iter().map(ToString::to_string).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].contains("spec.externalIPs: 198.51.100.1 is not in services.allowedExternalIPs")
    );
    assert!(refused[1].contains("192.0.2.2 is not in services.allowedLoadBalancerIPs"));
    assert!(
        super::refused(&service, std::iter::empty(), &Settings::default()).is_empty(),
        "all are, by default"
    );
}
