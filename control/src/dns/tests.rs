//! Names and what is found of them: each rule of the specification on its own.

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData};

use super::records::{Found, Zone};
use crate::object::{Kind, Object, ObjectKey, ObjectName, Service, Slice};
use crate::settings::Settings;
use crate::state::State;

const WEB: &str = "{metadata: {namespace: demo, name: web}, spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], ipFamilies: [IPv4, IPv6],
    ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}";
const PLAIN: &str =
    "{metadata: {namespace: demo, name: plain}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}";
const DB: &str = "{metadata: {namespace: demo, name: db}, spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}}";
const DB_EAGER: &str = "{metadata: {namespace: demo, name: db}, spec: {clusterIP: None, publishNotReadyAddresses: true,
    ports: [{name: sql, port: 5432}]}}";
const DB_V4: &str = "{metadata: {namespace: demo, name: db-4, labels: {kubernetes.io/service-name: db, service.kubernetes.io/headless: ''}},
    addressType: IPv4, ports: [{name: sql, port: 15432}, {name: '', port: 9}],
    endpoints: [{addresses: [10.0.0.1], hostname: DB-0}, {addresses: [10.0.0.2]}, {addresses: [10.0.0.3], conditions: {ready: false}}]}";
const DB_V6: &str = "{metadata: {namespace: demo, name: db-6, labels: {kubernetes.io/service-name: db}},
    addressType: IPv6, ports: [{name: sql, port: 15432}], endpoints: [{addresses: ['fd00::1'], hostname: db-0}, {addresses: ['fd00::2']}]}";

/// Objects, as a cluster has them.
#[derive(Default)]
struct Cluster {
    state: State,
    settings: Settings,
}

impl Cluster {
    fn new(services: &[&str], slices: &[&str]) -> Self {
        let mut cluster = Self::default();
        // Slices first: they wait for their Services.
        slices.iter().for_each(|slice| cluster.slice(slice));
        services.iter().for_each(|service| cluster.service(service));
        cluster.settings.service_cidrs = vec!["10.96.0.0/12".parse().expect("a network")];
        cluster
    }

    fn service(&mut self, yaml: &str) {
        let service = serde_saphyr::from_str(yaml).expect("readable");
        self.state.apply(Object::Service(Service::parse(&service).expect("named").object));
    }

    fn slice(&mut self, yaml: &str) {
        let slice = serde_saphyr::from_str(yaml).expect("readable");
        self.state.apply(Object::Slice(Slice::parse(&slice).expect("named").object));
    }

    fn delete(&mut self, kind: Kind, name: &str) {
        self.state.delete(&ObjectKey { kind, name: ObjectName::new("demo", name) });
    }

    fn find(&self, name: &str) -> Found {
        let zone = Name::from_ascii("cluster.local.").expect("a name");
        let servers = vec!["192.0.2.53".parse().expect("an address")];
        let name = Name::from_ascii(name).expect("a name");
        Zone::new(zone, 5, servers).find(&name, &self.state, &self.settings)
    }

    /// Records of a name below the zone, as `TYPE data`; `NXDOMAIN` when there is no such name.
    fn records(&self, name: &str) -> Vec<String> {
        match self.find(&format!("{name}.cluster.local.")) {
            Found::Here { records: Some(records), .. } => text(&records),
            Found::Here { records: None, .. } => vec!["NXDOMAIN".to_owned()],
            Found::Elsewhere => panic!("{name} is in the zone"),
        }
    }

    fn names(&self, address: &str) -> Vec<String> {
        let address: IpAddr = address.parse().expect("an address");
        match self.find(&Name::from(address).to_ascii()) {
            Found::Here { records: Some(records), .. } => text(&records),
            Found::Here { records: None, .. } => vec!["NXDOMAIN".to_owned()],
            Found::Elsewhere => vec!["elsewhere".to_owned()],
        }
    }
}

fn text(records: &[RData]) -> Vec<String> {
    records.iter().map(|data| format!("{} {data}", data.record_type())).collect()
}

const NONE: [&str; 0] = [];
const NXDOMAIN: [&str; 1] = ["NXDOMAIN"];

#[test]
fn dns_1_the_zone_tells_its_version() {
    let cluster = Cluster::default();
    assert_eq!(cluster.records("dns-version"), ["TXT 1.1.0"]);
    let Found::Here { records: Some(apex), .. } = cluster.find("cluster.local.") else {
        panic!("the zone is there")
    };
    assert_eq!(
        text(&apex),
        [
            "SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5",
            "NS ns.dns.cluster.local."
        ]
    );
    assert_eq!(cluster.records("ns.dns"), ["A 192.0.2.53"]);
    assert_eq!(cluster.find("example.com."), Found::Elsewhere);
    assert_eq!(cluster.find("notcluster.local."), Found::Elsewhere);
}

#[test]
fn dns_2_a_service_has_its_cluster_ips_whatever_its_endpoints_are() {
    let mut cluster = Cluster::new(&[WEB, PLAIN], &[]);
    assert_eq!(cluster.records("web.demo.svc"), ["A 10.96.0.1", "AAAA fd00:96::1"]);
    assert_eq!(cluster.records("plain.demo.svc"), ["A 10.96.0.2"]);
    assert_eq!(cluster.records("gone.demo.svc"), NXDOMAIN);
    assert_eq!(cluster.records("x.web.demo.svc"), NXDOMAIN);
    // Labels for other proxies and for headless Services are none of DNS's business.
    cluster.service(
        "{metadata: {namespace: demo, name: other, labels: {service.kubernetes.io/service-proxy-name: x, service.kubernetes.io/headless: ''}},
          spec: {clusterIP: 10.96.0.3, ports: [{port: 80}]}}",
    );
    assert_eq!(cluster.records("other.demo.svc"), ["A 10.96.0.3"]);
    cluster.delete(Kind::Service, "web");
    assert_eq!(cluster.records("web.demo.svc"), NXDOMAIN);
}

#[test]
fn names_above_services_exist_but_have_no_records() {
    let mut cluster = Cluster::new(&[PLAIN], &[]);
    for name in ["svc", "pod", "dns", "demo.svc", "demo.pod"] {
        assert_eq!(cluster.records(name), NONE, "{name}");
    }
    for name in ["other.svc", "x", "x.y", "a.b.c.d.svc"] {
        assert_eq!(cluster.records(name), NXDOMAIN, "{name}");
    }
    cluster.delete(Kind::Service, "plain");
    assert_eq!(cluster.records("demo.svc"), NXDOMAIN);
}

#[test]
fn dns_3_named_ports_have_srv_records() {
    let cluster = Cluster::new(&[WEB, PLAIN], &[]);
    assert_eq!(
        cluster.records("_http._tcp.web.demo.svc"),
        ["SRV 0 100 80 web.demo.svc.cluster.local."]
    );
    assert_eq!(
        cluster.records("_dns._udp.web.demo.svc"),
        ["SRV 0 100 53 web.demo.svc.cluster.local."]
    );
    assert_eq!(cluster.records("_tcp.web.demo.svc"), NONE);
    for name in [
        "_http._udp.web.demo.svc",
        "http.tcp.web.demo.svc",
        "_sctp.web.demo.svc",
        "_._tcp.plain.demo.svc",
        "_tcp.plain.demo.svc",
        "_80._tcp.plain.demo.svc",
    ] {
        assert_eq!(cluster.records(name), NXDOMAIN, "{name}");
    }
}

#[test]
fn dns_4_a_cluster_ip_has_a_name() {
    let mut cluster = Cluster::new(&[WEB], &[]);
    assert_eq!(cluster.names("10.96.0.1"), ["PTR web.demo.svc.cluster.local."]);
    assert_eq!(cluster.names("fd00:96::1"), ["PTR web.demo.svc.cluster.local."]);
    // Of the cluster's own networks nobody else knows anything; of others somebody may.
    assert_eq!(cluster.names("10.111.0.9"), NXDOMAIN);
    assert_eq!(cluster.names("192.0.2.1"), ["elsewhere"]);
    let zone = |name: &str| match cluster.find(name) {
        Found::Here { zone, records } => (zone.to_ascii(), records.map(|records| records.len())),
        Found::Elsewhere => ("elsewhere".to_owned(), None),
    };
    assert_eq!(zone("9.0.111.10.in-addr.arpa."), ("111.10.in-addr.arpa.".into(), None));
    assert_eq!(zone("0.96.10.in-addr.arpa."), ("96.10.in-addr.arpa.".into(), Some(0)));
    assert_eq!(zone("10.in-addr.arpa."), ("elsewhere".into(), None));

    cluster.service("{metadata: {namespace: demo, name: web}, spec: {clusterIP: 10.96.0.7}}");
    assert_eq!(cluster.names("10.96.0.1"), NXDOMAIN);
    assert_eq!(cluster.names("10.96.0.7"), ["PTR web.demo.svc.cluster.local."]);
    cluster.delete(Kind::Service, "web");
    assert_eq!(cluster.names("10.96.0.7"), NXDOMAIN);
}

#[test]
fn dns_5_a_headless_service_has_its_ready_endpoints() {
    let mut cluster = Cluster::new(&[DB], &[DB_V4, DB_V6]);
    assert_eq!(
        cluster.records("db.demo.svc"),
        ["A 10.0.0.1", "A 10.0.0.2", "AAAA fd00::1", "AAAA fd00::2"]
    );
    assert_eq!(cluster.records("db-0.db.demo.svc"), ["A 10.0.0.1", "AAAA fd00::1"]);
    assert_eq!(cluster.records("10-0-0-2.db.demo.svc"), ["A 10.0.0.2"]);
    assert_eq!(cluster.records("fd00--2.db.demo.svc"), ["AAAA fd00::2"]);
    for name in
        ["10-0-0-1.db.demo.svc", "10-0-0-3.db.demo.svc", "x.db.demo.svc", "a.b.c.db.demo.svc"]
    {
        assert_eq!(cluster.records(name), NXDOMAIN, "{name}");
    }
    // A change is there at once.
    cluster.delete(Kind::EndpointSlice, "db-6");
    assert_eq!(cluster.records("db.demo.svc"), ["A 10.0.0.1", "A 10.0.0.2"]);
    cluster.delete(Kind::EndpointSlice, "db-4");
    for name in ["db.demo.svc", "_tcp.db.demo.svc", "_sql._tcp.db.demo.svc"] {
        assert_eq!(cluster.records(name), NXDOMAIN, "{name}: no endpoint, no name");
    }
}

#[test]
fn dns_6_endpoints_of_a_headless_service_have_srv_and_ptr_records() {
    let mut cluster = Cluster::new(&[DB], &[DB_V4, DB_V6]);
    assert_eq!(
        cluster.records("_sql._tcp.db.demo.svc"),
        [
            "SRV 0 100 15432 10-0-0-2.db.demo.svc.cluster.local.",
            "SRV 0 100 15432 db-0.db.demo.svc.cluster.local.",
            "SRV 0 100 15432 fd00--2.db.demo.svc.cluster.local."
        ]
    );
    assert_eq!(cluster.records("_tcp.db.demo.svc"), NONE);
    assert_eq!(cluster.records("_udp.db.demo.svc"), NXDOMAIN);
    assert_eq!(cluster.names("10.0.0.1"), ["PTR db-0.db.demo.svc.cluster.local."]);
    assert_eq!(cluster.names("10.0.0.2"), ["PTR 10-0-0-2.db.demo.svc.cluster.local."]);
    assert_eq!(cluster.names("10.0.0.3"), ["elsewhere"], "it is not ready");
    // A slice that changes, and a Service that becomes another kind, take the names along.
    cluster.slice(&DB_V4.replace("10.0.0.2", "10.0.0.4"));
    assert_eq!(cluster.names("10.0.0.2"), ["elsewhere"]);
    assert_eq!(cluster.names("10.0.0.4"), ["PTR 10-0-0-4.db.demo.svc.cluster.local."]);
    cluster.service(&DB.replace("None", "10.96.0.9"));
    assert_eq!(
        cluster.names("10.0.0.4"),
        ["elsewhere"],
        "endpoints behind a cluster IP have no names"
    );
    assert_eq!(cluster.names("10.96.0.9"), ["PTR db.demo.svc.cluster.local."]);
    cluster.service(DB);
    assert_eq!(cluster.names("10.0.0.4"), ["PTR 10-0-0-4.db.demo.svc.cluster.local."]);
    cluster.delete(Kind::EndpointSlice, "db-4");
    assert_eq!(cluster.names("10.0.0.4"), ["elsewhere"]);
    cluster.delete(Kind::Service, "db");
    assert_eq!(cluster.names("fd00::1"), ["elsewhere"]);
}

#[test]
fn dns_7_a_service_may_publish_endpoints_that_are_not_ready() {
    let cluster = Cluster::new(&[DB_EAGER], &[DB_V4]);
    assert_eq!(cluster.records("db.demo.svc"), ["A 10.0.0.1", "A 10.0.0.2", "A 10.0.0.3"]);
    assert_eq!(cluster.records("10-0-0-3.db.demo.svc"), ["A 10.0.0.3"]);
    assert_eq!(cluster.names("10.0.0.3"), ["PTR 10-0-0-3.db.demo.svc.cluster.local."]);
    assert_eq!(cluster.records("_sql._tcp.db.demo.svc").len(), 3);
}

#[test]
fn dns_8_an_external_name_is_an_alias() {
    let external = |name: &str, target: &str| {
        format!(
            "{{metadata: {{namespace: demo, name: {name}}}, spec: {{type: ExternalName, clusterIP: 10.96.0.3, externalName: '{target}', ports: [{{name: a, port: 1}}]}}}}"
        )
    };
    let (shop, address, empty) = (
        external("shop", "shop.example.com"),
        external("address", "192.0.2.1"),
        external("empty", ""),
    );
    let cluster = Cluster::new(&[&shop, &address, &empty], &[]);
    assert_eq!(cluster.records("shop.demo.svc"), ["CNAME shop.example.com."]);
    assert_eq!(cluster.records("address.demo.svc"), ["CNAME 192.0.2.1."]);
    assert_eq!(cluster.records("empty.demo.svc"), NONE);
    assert_eq!(cluster.records("_a._tcp.shop.demo.svc"), NXDOMAIN);
    assert_eq!(cluster.names("10.96.0.3"), NXDOMAIN, "a stale cluster IP is none");
}

#[test]
fn dns_9_a_pod_has_a_name_made_of_its_address() {
    let cluster = Cluster::default();
    assert_eq!(cluster.records("10-0-0-1.demo.pod"), ["A 10.0.0.1"]);
    assert_eq!(cluster.records("fd00--1.demo.pod"), ["AAAA fd00::1"]);
    for name in ["web.demo.pod", "10-0-0.demo.pod", "10-0-0-256.demo.pod", "1.10-0-0-1.demo.pod"] {
        assert_eq!(cluster.records(name), NXDOMAIN, "{name}");
    }
}

#[test]
fn dns_10_case_does_not_matter() {
    let cluster = Cluster::new(&[WEB, DB], &[DB_V4]);
    assert_eq!(cluster.records("WEB.Demo.SVC").len(), 2);
    assert_eq!(cluster.records("_HTTP._Tcp.web.demo.svc").len(), 1);
    assert_eq!(cluster.records("Db-0.DB.demo.svc"), ["A 10.0.0.1"]);
    assert!(matches!(
        cluster.find("web.demo.svc.CLUSTER.Local."),
        Found::Here { records: Some(records), .. } if records.len() == 2
    ));
}

#[test]
fn dns_11_addresses_for_the_outside_are_not_in_the_zone() {
    let balanced = "{metadata: {namespace: demo, name: web}, spec: {type: LoadBalancer, clusterIP: 10.96.0.1, externalIPs: [192.0.2.8],
        ports: [{port: 80, nodePort: 30080}]}, status: {loadBalancer: {ingress: [{ip: 192.0.2.9}]}}}";
    let cluster = Cluster::new(&[balanced], &[]);
    assert_eq!(cluster.records("web.demo.svc"), ["A 10.96.0.1"]);
    assert_eq!(cluster.names("192.0.2.8"), ["elsewhere"]);
    assert_eq!(cluster.names("192.0.2.9"), ["elsewhere"]);
}
