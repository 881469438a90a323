//! The verdict table: every kind of VIP, source and policy, with the reply's way back (rules VER, MSQ, REJ, LSR, NPT).

use dataplane::flow::Protocol::{Tcp, Udp};
use dataplane::ranges::{Networks, Pool};
use dataplane::verdict::DropReason::*;

use super::*;
use crate::support::gateway::{FAMILIES, Family, at};
use crate::support::packet::*;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    for f in FAMILIES {
        cases.extend(policy_table(f));
        cases.extend(without_detector(f));
        cases.extend(masquerading(f));
        cases.extend(refusals(f));
        cases.extend(source_ranges(f));
        cases.extend(node_ports(f));
    }
    cases
}

const NODE_PORT: u16 = 30_080;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Pod,
    Node,
    Outside,
}
use Source::{Node, Outside, Pod};

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Vip {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
}
use Vip::{ClusterIp, ExternalIp, LoadBalancer, NodePort};

const EXTERNAL: [Vip; 3] = [ExternalIp, LoadBalancer, NodePort];

/// What should happen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// To the endpoint that is in the cluster list only, keeping the source.
    Cluster,
    /// The same under a masquerade address.
    ClusterMasquerade,
    /// To the endpoint that is in the local list only.
    Local,
    LocalMasquerade,
    Drop(DropReason),
    Refused,
}
use Expect::{Cluster, ClusterMasquerade, Drop, Local, LocalMasquerade, Refused};

impl Vip {
    fn address(self, f: Family) -> (std::net::IpAddr, u16) {
        match self {
            ClusterIp => at(f.cluster_ip, 80),
            ExternalIp => at(f.external_ip, 80),
            LoadBalancer => at(f.load_balancer, 80),
            NodePort => at(f.node_out, NODE_PORT),
        }
    }
}

impl Source {
    fn address(self, f: Family) -> &'static str {
        match self {
            Pod => f.pod,
            Node => f.node_in,
            Outside => f.client,
        }
    }
}

/// A Service at every kind of VIP: the first endpoint in the cluster list, the second in the local one.
fn everywhere(f: Family) -> Service {
    Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
        .local(&[(f.backends[1], 8080)])
        .cluster_ip(f.cluster_ip, 80)
        .external(f.external_ip, 80)
        .load_balancer(f.load_balancer, 80, &[])
        .node_port(f.v4, NODE_PORT)
}

/// A connection's first packet and the answer to it, checked byte by byte.
fn ask(name: &str, case: Case, f: Family, source: Source, vip: Vip, expect: Expect) -> Case {
    let mut case = case;
    case.name = format!("{name}: {source:?} to {vip:?}, v4 {}, expecting {expect:?}", f.v4);
    let client = at(source.address(f), 5000);
    let packet = tcp(client, vip.address(f));
    let (backend, masquerade) = match expect {
        Cluster => (0, false),
        ClusterMasquerade => (0, true),
        Local => (1, false),
        LocalMasquerade => (1, true),
        Drop(reason) => return from(case, source, packet, dropped(reason)),
        Refused => {
            let reset = tcp(vip.address(f), client).flags(RST | ACK).seq(0).ack(1001);
            let reset = refusal(reset);
            let fate = match source {
                Pod => answered_in(reset),
                Outside => answered_out(reset),
                Node => Fate::Punted(OUT, reset.macs(OUT_MAC, OUT_MAC).frame()),
            };
            return from(case, source, packet, fate);
        }
    };
    let backend = at(f.backends[backend], 8080);
    let seen_as = if masquerade { at(f.node_in, MASQUERADE_PORT) } else { client };
    let case = from(case, source, packet, sent_in(tcp(seen_as, backend).ttl(63)));
    let reply = tcp(backend, seen_as).flags(SYN | ACK);
    let back = tcp(vip.address(f), client).flags(SYN | ACK);
    let fate = match source {
        Pod => sent_in(back.ttl(63)),
        Outside => sent_out(back.ttl(63)),
        Node => Fate::Punted(IN, back.macs(IN_MAC, IN_MAC).frame()),
    };
    case.pods(reply, fate)
}

fn from(case: Case, source: Source, packet: Packet, fate: Fate) -> Case {
    match source {
        Pod => case.pods(packet, fate),
        Outside => case.outside(packet, fate),
        Node => {
            // The kernel's route to VIPs is the default one, by the outer port.
            let frame = from_kernel(OUT, packet);
            case.expecting(&fate.clone())
                .then(move |gateway| assert_eq!(gateway.inject(OUT, &frame), fate))
        }
    }
}

/// A refusal as the engine builds it: a header of its own, without options or flags.
fn refusal(packet: Packet) -> Packet {
    packet.ip_fragment(0, 0).window(0)
}

fn policy_table(f: Family) -> Vec<Case> {
    let mut cases = vec![];
    let mut rows = |name: &str, service: Service, vips: &[Vip], expect: [(Source, Expect); 3]| {
        for &vip in vips {
            for (source, expect) in expect {
                let case = case("").service("ns/web", std::slice::from_ref(&service));
                cases.push(ask(name, case, f, source, vip, expect));
            }
        }
    };
    rows(
        "cluster IP, iTP Cluster",
        everywhere(f),
        &[ClusterIp],
        [(Pod, Cluster), (Node, ClusterMasquerade), (Outside, ClusterMasquerade)],
    );
    rows(
        "cluster IP, iTP Local",
        everywhere(f).internal_local(),
        &[ClusterIp],
        [(Pod, Local), (Node, LocalMasquerade), (Outside, LocalMasquerade)],
    );
    rows(
        "external, eTP Cluster",
        everywhere(f),
        &EXTERNAL,
        [(Pod, ClusterMasquerade), (Node, ClusterMasquerade), (Outside, ClusterMasquerade)],
    );
    rows(
        "external, eTP Local",
        everywhere(f).external_local(),
        &EXTERNAL,
        [(Pod, Cluster), (Node, ClusterMasquerade), (Outside, Local)],
    );
    rows(
        "iTP is nothing to external addresses (VER-1)",
        everywhere(f).internal_local(),
        &EXTERNAL,
        [(Pod, ClusterMasquerade), (Node, ClusterMasquerade), (Outside, ClusterMasquerade)],
    );
    rows(
        "eTP is nothing to cluster IPs (VER-1)",
        everywhere(f).external_local(),
        &[ClusterIp],
        [(Pod, Cluster), (Node, ClusterMasquerade), (Outside, ClusterMasquerade)],
    );
    rows(
        "iTP Local with nothing local (REJ-2)",
        everywhere(f).internal_local().local(&[]),
        &[ClusterIp],
        [
            (Pod, Drop(NoLocalEndpointInternal)),
            (Node, Drop(NoLocalEndpointInternal)),
            (Outside, Drop(NoLocalEndpointInternal)),
        ],
    );
    rows(
        "eTP Local with nothing local: others short-circuit (REJ-3, VER-6)",
        everywhere(f).external_local().local(&[]),
        &EXTERNAL,
        [(Pod, Cluster), (Node, ClusterMasquerade), (Outside, Drop(NoLocalEndpointExternal))],
    );
    cases
}

/// VER-4: who is a pod, nobody can say.
fn without_detector(f: Family) -> Vec<Case> {
    let blind = |service: Service| {
        case("")
            .setup(|setup| setup.node.cluster_cidrs = Networks::default())
            .service("ns/web", &[service])
    };
    let mut cases = vec![];
    for source in [Pod, Node, Outside] {
        cases.push(ask("no detector", blind(everywhere(f)), f, source, ClusterIp, Cluster));
    }
    for (source, expect) in [(Pod, Local), (Node, ClusterMasquerade), (Outside, Local)] {
        let case = blind(everywhere(f).external_local());
        cases.push(ask("no detector, eTP Local", case, f, source, LoadBalancer, expect));
    }
    cases
}

/// MSQ-4: under the address of the port that leads to the backend, or one of the pool.
fn masquerading(f: Family) -> Vec<Case> {
    let all = |service: Service| {
        case("").setup(|setup| setup.node.masquerade_all = true).service("ns/web", &[service])
    };
    let mut cases = vec![
        ask("masqueradeAll", all(everywhere(f)), f, Pod, ClusterIp, ClusterMasquerade),
        ask(
            "masqueradeAll leaves eTP Local alone (MSQ-3)",
            all(everywhere(f).external_local()),
            f,
            Outside,
            LoadBalancer,
            Local,
        ),
    ];
    // MSQ-2: a pod that reaches itself must not see itself as the client, whatever the policy.
    let own =
        |service: Service| case("").service("ns/web", &[service.local(&[(f.backends[0], 8080)])]);
    for (service, vip) in [
        (everywhere(f), ClusterIp),
        (everywhere(f).internal_local(), ClusterIp),
        (everywhere(f).external_local(), LoadBalancer),
        (everywhere(f).external_local(), NodePort),
    ] {
        let client = at(f.backends[0], 5000);
        let seen_as = at(f.node_in, MASQUERADE_PORT);
        let backend = at(f.backends[0], 8080);
        cases.push(
            own(service)
                .pods(tcp(client, vip.address(f)), sent_in(tcp(seen_as, backend).ttl(63)))
                .pods(
                    tcp(backend, seen_as).flags(SYN | ACK),
                    sent_in(tcp(vip.address(f), client).flags(SYN | ACK).ttl(63)),
                )
                .named(format!("hairpin by {vip:?}, v4 {}", f.v4)),
        );
    }
    let pool = if f.v4 { "192.0.2.77" } else { "2001:db8:1::77" };
    let packet = tcp(at(f.client, 5000), ClusterIp.address(f));
    cases.push(
        case("a masquerade pool goes before port addresses")
            .setup(move |setup| {
                setup.node.masquerade_pool = Pool::from_iter([pool.parse().expect("valid")])
            })
            .service("ns/web", &[everywhere(f)])
            .outside(
                packet.clone(),
                sent_in(tcp(at(pool, MASQUERADE_PORT), at(f.backends[0], 8080)).ttl(63)),
            )
            .pods(
                tcp(at(f.backends[0], 8080), at(pool, MASQUERADE_PORT)).flags(SYN | ACK),
                sent_out(tcp(ClusterIp.address(f), at(f.client, 5000)).flags(SYN | ACK).ttl(63)),
            ),
    );
    cases.push(
        case("strays to a masquerade pool are not routed on")
            .setup(move |setup| {
                setup.node.masquerade_pool = Pool::from_iter([pool.parse().expect("valid")])
            })
            .outside(tcp(at(f.client, 5000), at(pool, MASQUERADE_PORT)), dropped(NoConnection))
            .outside(tcp(at(f.client, 5000), at(pool, 80)), dropped(NoConnection))
            .outside(
                time_exceeded(f.client, pool, &udp(at(pool, 80), at(f.client, 9)).ip()),
                dropped(NoConnection),
            )
            .outside(ping(f.client, pool, b"x"), dropped(UnsupportedProtocol)),
    );
    cases.push(
        case("no address to masquerade under")
            .setup(move |setup| {
                setup.fib.ports[1].addresses.retain(|address| address.is_ipv4() != f.v4);
            })
            .service("ns/web", &[everywhere(f)])
            .outside(packet, dropped(NoMasqueradeAddress)),
    );
    cases
}

fn refusals(f: Family) -> Vec<Case> {
    let empty = || {
        Service::new("ns/web:80", Tcp, &[])
            .cluster_ip(f.cluster_ip, 80)
            .external(f.external_ip, 80)
            .load_balancer(f.load_balancer, 80, &[])
            .node_port(f.v4, NODE_PORT)
    };
    let mut cases = vec![];
    for vip in [ClusterIp, ExternalIp, LoadBalancer, NodePort] {
        for source in [Pod, Node, Outside] {
            let case = case("").service("ns/web", &[empty()]);
            cases.push(ask("no endpoints (REJ-1)", case, f, source, vip, Refused));
        }
    }
    let web = |name: &str| case(format!("{name}, v4 {}", f.v4)).service("ns/web", &[everywhere(f)]);
    let client = at(f.client, 5000);
    let reset = |from| refusal(tcp(from, client).flags(RST | ACK).seq(0).ack(1001));
    cases.extend([
        web("an unknown port of a cluster IP (REJ-10)")
            .outside(tcp(client, at(f.cluster_ip, 81)), answered_out(reset(at(f.cluster_ip, 81)))),
        web("an unknown port of a cluster IP, unless configured otherwise")
            .setup(|setup| setup.node.reject_unknown_cluster_ip_ports = false)
            .outside(tcp(client, at(f.cluster_ip, 81)), dropped(VipPortUnknown)),
        web("an unknown port of a load balancer (VER-8, OPN-6)").outside(
            tcp(client, at(f.load_balancer, 81)),
            answered_out(reset(at(f.load_balancer, 81))),
        ),
        web("an unknown port of a load balancer, left to a host that has nobody there (LBR-8)")
            .setup(|setup| setup.node.reject_unknown_external_ports = false)
            .outside(tcp(client, at(f.load_balancer, 81)), dropped(VipPortUnknown)),
        web("a port of another protocol (VER-7)").outside(
            udp(client, at(f.load_balancer, 80)),
            answered_out(
                port_unreachable(f.node_out, f.client, &udp(client, at(f.load_balancer, 80)).ip())
                    .ip_fragment(0, 0),
            ),
        ),
        web("an unallocated service address (REJ-10)")
            .outside(tcp(client, at(f.unallocated, 80)), dropped(ServiceAddressUnallocated)),
        case(format!(
            "an unknown port of an external address in the service range (REJ-10), v4 {}",
            f.v4
        ))
        .service(
            "ns/web",
            &[Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
                .external_local()
                .external(f.unallocated, 80)],
        )
        .outside(
            tcp(client, at(f.unallocated, 80)),
            sent_in(tcp(client, at(f.backends[0], 8080)).ttl(63)),
        )
        .outside(tcp(client, at(f.unallocated, 81)), dropped(ServiceAddressUnallocated)),
        web("a reset to an unknown port is not answered")
            .outside(tcp(client, at(f.cluster_ip, 81)).flags(RST), dropped(RejectUnanswerable)),
        web("another protocol to a VIP")
            .outside(raw(f.client, f.cluster_ip, 47, &[0; 8]), dropped(UnsupportedProtocol))
            .outside(raw(f.client, f.load_balancer, 33, &[0; 12]), dropped(UnsupportedProtocol))
            .outside(raw(f.client, f.unallocated, 47, &[0; 8]), dropped(ServiceAddressUnallocated)),
        web("a broadcast frame is not refused, nor treated as a packet to a VIP").frame(
            OUT,
            tcp(client, at(f.cluster_ip, 81)).macs(ROUTER, [0xff; 6]).frame(),
            Fate::Punted(OUT, tcp(client, at(f.cluster_ip, 81)).macs(ROUTER, [0xff; 6]).frame()),
        ),
    ]);
    // Without endpoints but with some elsewhere the Service is not refused but silent (SEL-7).
    let elsewhere = everywhere(f).external_local().local(&[]);
    let mut elsewhere = elsewhere.with_endpoints_elsewhere();
    elsewhere.0.cluster.clear();
    cases.push(
        case("usable endpoints, but none in either list")
            .service("ns/web", &[elsewhere])
            .outside(tcp(client, ClusterIp.address(f)), dropped(NoLocalEndpointInternal))
            .outside(tcp(client, LoadBalancer.address(f)), dropped(NoLocalEndpointExternal)),
    );
    // Two protocols at one port are two rows (VER-7).
    let names =
        Service::new("ns/web:80u", Udp, &[(f.backends[1], 5353)]).cluster_ip(f.cluster_ip, 80);
    cases.push(
        case("TCP and UDP at one port")
            .service("ns/web", &[everywhere(f), names])
            .pods(
                udp(at(f.pod, 5000), ClusterIp.address(f)),
                sent_in(udp(at(f.pod, 5000), at(f.backends[1], 5353)).ttl(63)),
            )
            .pods(
                tcp(at(f.pod, 5000), ClusterIp.address(f)),
                sent_in(tcp(at(f.pod, 5000), at(f.backends[0], 8080)).ttl(63)),
            ),
    );
    cases
}

fn source_ranges(f: Family) -> Vec<Case> {
    let narrow = if f.v4 { "192.0.2.0/24" } else { "2001:db8:1::/48" };
    let wide = if f.v4 { "203.0.113.0/24" } else { "2001:db8:f::/48" };
    let guarded = |ranges: &[&str], endpoints: bool| {
        let mut service = Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
            .local(&[(f.backends[1], 8080)])
            .cluster_ip(f.cluster_ip, 80)
            .external(f.external_ip, 80)
            .load_balancer(f.load_balancer, 80, ranges)
            .node_port(f.v4, NODE_PORT)
            .external_local();
        if !endpoints {
            service = service.local(&[]);
            service.0.cluster.clear();
            service.0.has_endpoints = false;
        }
        case("").service("ns/web", &[service])
    };
    let mut cases = vec![
        ask("inside the ranges", guarded(&[wide], true), f, Outside, LoadBalancer, Local),
        ask(
            "inside one of the ranges",
            guarded(&[narrow, wide], true),
            f,
            Outside,
            LoadBalancer,
            Local,
        ),
        ask(
            "outside the ranges (LSR-3)",
            guarded(&[narrow], true),
            f,
            Outside,
            LoadBalancer,
            Drop(SourceNotAllowed),
        ),
        ask(
            "pods, too (LSR-2)",
            guarded(&[narrow], true),
            f,
            Pod,
            LoadBalancer,
            Drop(SourceNotAllowed),
        ),
        ask(
            "the node, too (LSR-2)",
            guarded(&[wide], true),
            f,
            Node,
            LoadBalancer,
            Drop(SourceNotAllowed),
        ),
        ask(
            "ranges before refusal (REJ-9)",
            guarded(&[narrow], false),
            f,
            Outside,
            LoadBalancer,
            Drop(SourceNotAllowed),
        ),
    ];
    for vip in [ExternalIp, NodePort] {
        cases.push(ask(
            "other addresses are not filtered (LSR-1)",
            guarded(&[narrow], true),
            f,
            Outside,
            vip,
            Local,
        ));
    }
    cases.push(ask(
        "other addresses are not filtered (LSR-1)",
        guarded(&[narrow], true),
        f,
        Outside,
        ClusterIp,
        ClusterMasquerade,
    ));
    // LSR-9: narrowing does not cut what is established.
    let open = |ranges: &[&str]| {
        vec![
            Service::new("ns/web:80", Tcp, &[(f.backends[0], 8080)])
                .load_balancer(f.load_balancer, 80, ranges)
                .external_local(),
        ]
    };
    let (client, vip, backend) =
        (at(f.client, 5000), at(f.load_balancer, 80), at(f.backends[0], 8080));
    cases.push(
        case("established connections outlive narrower ranges (LSR-9)")
            .service("ns/web", &open(&[]))
            .outside(tcp(client, vip), sent_in(tcp(client, backend).ttl(63)))
            .apply("ns/web", open(&[narrow]))
            .outside(tcp(client, vip).flags(ACK), sent_in(tcp(client, backend).flags(ACK).ttl(63)))
            .outside(tcp(at(f.client, 5001), vip), dropped(SourceNotAllowed)),
    );
    cases
}

fn node_ports(f: Family) -> Vec<Case> {
    let client = at(f.client, 5000);
    let packet = |host: &str, port| tcp(client, at(host, port));
    let other = Service::new("ns/other:80", Tcp, &[(f.backends[2], 8080)])
        .external(f.node_out, NODE_PORT)
        .external_local();
    vec![
        case("an address that does not serve node ports is the kernel's (NPT-6)")
            .service("ns/web", &[everywhere(f)])
            .outside(packet(f.node_in, NODE_PORT), punted_out(packet(f.node_in, NODE_PORT))),
        case("other ports of a serving address are the kernel's (REJ-8)")
            .service("ns/web", &[everywhere(f)])
            .outside(packet(f.node_out, 22), punted_out(packet(f.node_out, 22))),
        case("an external IP that is a node address goes first (NPT-10)")
            .service("ns/web", &[everywhere(f)])
            .service("ns/other", &[other])
            .outside(
                packet(f.node_out, NODE_PORT),
                sent_in(tcp(client, at(f.backends[2], 8080)).ttl(63)),
            )
            .outside(packet(f.node_out, 22), punted_out(packet(f.node_out, 22))),
        case("the Service's own port is no node port (NPT-1)")
            .service("ns/web", &[everywhere(f)])
            .outside(packet(f.node_out, 80), punted_out(packet(f.node_out, 80))),
        case("a node port serves its own protocol only")
            .service("ns/web", &[everywhere(f)])
            .outside(
                udp(client, at(f.node_out, NODE_PORT)),
                punted_out(udp(client, at(f.node_out, NODE_PORT))),
            ),
    ]
}
