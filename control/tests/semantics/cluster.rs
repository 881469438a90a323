//! What Node and ServiceCIDR objects change. The configuration says no more than it must.

use crate::world::{NODE_PORT, PORT, World, world};

const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: NAME, labels: {topology.kubernetes.io/zone: ZONE}},
    spec: {podCIDR: 10.0.1.0/24, taints: [{key: node.kubernetes.io/not-ready, effect: NoSchedule}]},
    status: {addresses: [{type: ExternalIP, address: 198.51.100.1}, {type: InternalIP, address: 192.0.2.10}, {type: Hostname, address: here}],
      conditions: [{type: Ready, status: 'True'}], capacity: {cpu: '4', memory: 8Gi},
      nodeInfo: {machineID: '', systemUUID: '', bootID: '', kernelVersion: '', osImage: '', containerRuntimeVersion: '',
        kubeletVersion: '', kubeProxyVersion: '', operatingSystem: '', architecture: ''}}}";

fn node(name: &str, zone: &str) -> String {
    NODE.replace("NAME", name).replace("ZONE", zone)
}

fn hinted(config: &str) -> World {
    world()
        .config(config)
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", "10.0.1.2/near 10.0.1.3/far")
}

#[test]
fn top_9_the_zone_is_the_one_of_the_node_object() {
    let to = "203.0.113.7 -> 172.30.0.41:80";
    let all = "dnat 10.0.1.2:8080* 10.0.1.3:8080*";
    let bare = "nodeName: here, clusterCIDR: 10.0.0.0/16";
    hinted(bare).check(&[(to, all)]);
    hinted(bare).object(&node("here", "far")).check(&[(to, "dnat 10.0.1.3:8080*")]);
    // Another node's zone is nothing to us, and a label of the object wins over the configuration's.
    hinted(bare).object(&node("there", "far")).check(&[(to, all)]);
    let labelled = format!("{bare}, nodeLabels: {{topology.kubernetes.io/zone: near}}");
    hinted(&labelled).check(&[(to, "dnat 10.0.1.2:8080*")]);
    hinted(&labelled).object(&node("there", "far")).check(&[(to, "dnat 10.0.1.2:8080*")]);
    hinted(&labelled).object(&node("here", "far")).check(&[(to, "dnat 10.0.1.3:8080*")]);
    // In a list, as `kubectl get -o yaml` writes it.
    let list = format!("{{apiVersion: v1, kind: List, items: [{}]}}", node("here", "near"));
    hinted(bare).object(&list).check(&[(to, "dnat 10.0.1.2:8080*")]);
}

#[test]
fn npt_8_node_ips_are_those_of_the_node_object_unless_configured() {
    let web = |config: &str| {
        world()
            .config(config)
            .service("web", NODE_PORT)
            .slice("web", "10.0.1.2")
            .object(&node("here", "near"))
    };
    let served = "dnat 10.0.1.2:8080*";
    // The internal address is the primary one, and the default selects that.
    let primary = [
        ("203.0.113.7 -> 192.0.2.10:30080", served),
        ("203.0.113.7 -> 198.51.100.1:30080", "not-service node_address"),
    ];
    web("nodeName: here").check(&primary);
    web("nodeName: here, nodePortAddresses: [primary]").check(&primary);
    web("nodeName: here, nodePortAddresses: [0.0.0.0/0]")
        .check(&[("203.0.113.7 -> 198.51.100.1:30080", served)]);
    web("nodeName: here, nodeIPs: [192.0.2.11]").check(&[
        ("203.0.113.7 -> 192.0.2.11:30080", served),
        ("203.0.113.7 -> 192.0.2.10:30080", "not-service no_service"),
    ]);
    web("nodeName: there").check(&[("203.0.113.7 -> 192.0.2.10:30080", "not-service no_service")]);
}

#[test]
fn rej_10_ranges_of_service_cidr_objects_count() {
    let ranges = |name: &str, metadata: &str, ranges: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {{name: {name}{metadata}}}, spec: {{cidrs: [{ranges}]}}}}"
        )
    };
    let unallocated = "drop service_address_unallocated";
    let nobody = "not-service no_service";
    let w = world().config("nodeName: here, serviceCIDRs: [172.31.0.0/16]");
    w.check(&[
        ("203.0.113.7 -> 172.31.0.9:80", unallocated),
        ("203.0.113.7 -> 172.30.0.9:80", nobody),
    ]);
    let w = w.object(&ranges("kubernetes", "", "172.30.0.0/16, 'fd00:30::/112'")).object(&ranges(
        "extra",
        ", deletionTimestamp: '2026-01-01T00:00:00Z'",
        "172.29.0.0/24",
    ));
    w.check(&[
        ("203.0.113.7 -> 172.31.0.9:80", unallocated),
        ("203.0.113.7 -> 172.30.0.9:80", unallocated),
        ("2001:db8::7 -> [fd00:30::9]:80", unallocated),
        ("203.0.113.7 -> 172.29.0.9:80", unallocated),
        ("203.0.113.7 -> 172.28.0.9:80", nobody),
    ]);
}

#[test]
fn eps_14_a_cluster_ip_is_no_endpoint() {
    let web = |endpoints: &str| {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, externalIPs: [198.51.100.9], {PORT}"))
            .slice("web", endpoints)
    };
    let to = "outside -> 172.30.0.41:80";
    // Its own, and any of a service range.
    for circle in ["172.30.0.41", "172.30.0.99"] {
        let w = web(&format!("10.0.1.2 {circle}"));
        w.check(&[(to, "dnat 10.0.1.2:8080*")]);
        let steps = format!("{:?}", w.ask(&[to])[0].steps);
        assert!(steps.contains("a cluster IP can't be an endpoint (EPS-14)"), "{steps}");
        web(circle).check(&[(to, "reject no_endpoints")]);
    }
    // Without known ranges only its own can be told.
    let bare = "nodeName: here, clusterCIDR: 10.0.0.0/16";
    web("172.30.0.41 172.30.0.99").config(bare).check(&[(to, "dnat 172.30.0.99:8080*")]);
    // A node's address may be a Service's external one: pods of the host's network have it.
    web("198.51.100.9").check(&[(to, "dnat 198.51.100.9:8080*")]);
}
