//! The rules that kube-proxy's nftables mode programs, chain for chain and rule for rule
//! (`pkg/proxy/nftables/proxier.go`), as text for `nft -f`.

use std::fmt::Write as _;

use super::plan::{CLUSTER_IPS, Cluster, ENDPOINT_PORT, NODE, PODS, SERVICE_PORT};

/// Services in one transaction. Loading one of ten thousand takes the kernel half a minute, and more than it.
const CHUNK: u32 = 1000;

/// What is there whatever Services there are.
const BASE: &str = r#"
add table ip kube-proxy { comment "rules for kube-proxy" ; }
add set ip kube-proxy cluster-ips { type ipv4_addr ; comment "Active ClusterIPs" ; }
add set ip kube-proxy nodeport-ips { type ipv4_addr ; comment "IPs that accept NodePort traffic" ; }
add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict ; comment "destinations that are subject to LoadBalancerSourceRanges" ; }
add map ip kube-proxy no-endpoint-nodeports { type inet_proto . inet_service : verdict ; comment "vmap to drop or reject packets to service nodeports with no endpoints" ; }
add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict ; comment "vmap to drop or reject packets to services with no endpoints" ; }
add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict ; comment "ClusterIP, ExternalIP and LoadBalancer IP traffic" ; }
add map ip kube-proxy service-nodeports { type inet_proto . inet_service : verdict ; comment "NodePort traffic" ; }
add chain ip kube-proxy cluster-ips-check
add chain ip kube-proxy filter-prerouting-pre-dnat { type filter hook prerouting priority -110 ; }
add chain ip kube-proxy filter-output-pre-dnat { type filter hook output priority -110 ; }
add chain ip kube-proxy filter-forward { type filter hook forward priority 0 ; }
add chain ip kube-proxy filter-input { type filter hook input priority 0 ; }
add chain ip kube-proxy filter-output { type filter hook output priority 0 ; }
add chain ip kube-proxy firewall-check
add chain ip kube-proxy mark-for-masquerade
add chain ip kube-proxy masquerading
add chain ip kube-proxy nat-output { type nat hook output priority -100 ; }
add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100 ; }
add chain ip kube-proxy nat-prerouting { type nat hook prerouting priority -100 ; }
add chain ip kube-proxy nodeport-endpoints-check
add chain ip kube-proxy reject-chain { comment "helper for @no-endpoint-services / @no-endpoint-nodeports" ; }
add chain ip kube-proxy services
add chain ip kube-proxy service-endpoints-check
add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"
add rule ip kube-proxy filter-prerouting-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-forward ct state new jump service-endpoints-check
add rule ip kube-proxy filter-forward ct state new jump cluster-ips-check
add rule ip kube-proxy filter-input ct state new jump nodeport-endpoints-check
add rule ip kube-proxy filter-input ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
add rule ip kube-proxy filter-output-pre-dnat ct state new jump firewall-check
add rule ip kube-proxy filter-output ct state new jump cluster-ips-check
add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
add rule ip kube-proxy mark-for-masquerade mark set mark or 0x4000
add rule ip kube-proxy masquerading mark and 0x4000 == 0 return
add rule ip kube-proxy masquerading mark set mark xor 0x4000
add rule ip kube-proxy masquerading masquerade fully-random
add rule ip kube-proxy nat-output jump services
add rule ip kube-proxy nat-postrouting jump masquerading
add rule ip kube-proxy nat-prerouting jump services
add rule ip kube-proxy nodeport-endpoints-check ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
add rule ip kube-proxy reject-chain reject
add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
add rule ip kube-proxy services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
"#;

/// The rules for a cluster, in transactions.
pub(super) fn transactions(cluster: Cluster) -> impl Iterator<Item = String> {
    let chunks = (0..cluster.services).step_by(CHUNK as usize).map(move |first| {
        let mut text = String::new();
        for number in first..cluster.services.min(first + CHUNK) {
            service(&mut text, cluster, number);
        }
        text
    });
    std::iter::once(base()).chain(chunks)
}

fn base() -> String {
    let mut text = BASE.to_owned();
    let table = "ip kube-proxy";
    let _ = writeln!(
        text,
        "add rule {table} cluster-ips-check ip daddr {{ {CLUSTER_IPS} }} drop comment \"Drop traffic to unallocated ClusterIPs\""
    );
    let _ = writeln!(text, "add element {table} nodeport-ips {{ {NODE} }}");
    text
}

/// A Service's chain, the chains of its endpoints, and its elements.
fn service(text: &mut String, cluster: Cluster, number: u32) {
    let ip = cluster.cluster_ip(number);
    // Where kube-proxy has eight letters of a hash, so that names stay different when they are cut.
    let name = format!("perf/svc{number}/udp/p");
    let chain = format!("service-{number:08X}-{name}");
    let endpoints: Vec<_> = cluster
        .endpoints(number)
        .map(|address| {
            let hash = address.to_bits();
            (address, format!("endpoint-{hash:08X}-{name}__{address}/{ENDPOINT_PORT}"))
        })
        .collect();
    let mut add = |what: String| {
        let _ = writeln!(text, "add {what}");
    };
    let table = "ip kube-proxy";
    add(format!("chain {table} {chain}"));
    for (_, endpoint) in &endpoints {
        add(format!("chain {table} {endpoint}"));
    }
    add(format!("rule {table} {chain} ip daddr {ip} ip saddr != {PODS} jump mark-for-masquerade"));
    let choices: Vec<_> = endpoints
        .iter()
        .enumerate()
        .map(|(index, (_, endpoint))| format!("{index} : goto {endpoint}"))
        .collect();
    let (count, choices) = (endpoints.len(), choices.join(" , "));
    add(format!("rule {table} {chain} numgen random mod {count} vmap {{ {choices} }}"));
    for (address, endpoint) in &endpoints {
        add(format!("rule {table} {endpoint} ip saddr {address} jump mark-for-masquerade"));
        add(format!("rule {table} {endpoint} meta l4proto udp dnat to {address}:{ENDPOINT_PORT}"));
    }
    add(format!("element {table} cluster-ips {{ {ip} }}"));
    add(format!("element {table} service-ips {{ {ip} . udp . {SERVICE_PORT} : goto {chain} }}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_chain_that_chooses_among_chains_of_endpoints() {
        let mut text = String::new();
        service(&mut text, Cluster { services: 5_000 }, 1);
        let expected = "\
add chain ip kube-proxy service-00000001-perf/svc1/udp/p
add chain ip kube-proxy endpoint-0AF48003-perf/svc1/udp/p__10.244.128.3/8080
add chain ip kube-proxy endpoint-0AF48004-perf/svc1/udp/p__10.244.128.4/8080
add rule ip kube-proxy service-00000001-perf/svc1/udp/p ip daddr 10.96.0.2 ip saddr != 10.244.0.0/16 jump mark-for-masquerade
add rule ip kube-proxy service-00000001-perf/svc1/udp/p numgen random mod 2 vmap { 0 : goto endpoint-0AF48003-perf/svc1/udp/p__10.244.128.3/8080 , 1 : goto endpoint-0AF48004-perf/svc1/udp/p__10.244.128.4/8080 }
add rule ip kube-proxy endpoint-0AF48003-perf/svc1/udp/p__10.244.128.3/8080 ip saddr 10.244.128.3 jump mark-for-masquerade
add rule ip kube-proxy endpoint-0AF48003-perf/svc1/udp/p__10.244.128.3/8080 meta l4proto udp dnat to 10.244.128.3:8080
add rule ip kube-proxy endpoint-0AF48004-perf/svc1/udp/p__10.244.128.4/8080 ip saddr 10.244.128.4 jump mark-for-masquerade
add rule ip kube-proxy endpoint-0AF48004-perf/svc1/udp/p__10.244.128.4/8080 meta l4proto udp dnat to 10.244.128.4:8080
add element ip kube-proxy cluster-ips { 10.96.0.2 }
add element ip kube-proxy service-ips { 10.96.0.2 . udp . 80 : goto service-00000001-perf/svc1/udp/p }
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_rules_come_in_transactions_that_the_kernel_takes_quickly() {
        let sizes = |services| transactions(Cluster { services }).count();
        assert_eq!([sizes(1), sizes(1_000), sizes(10_000)], [2, 2, 11]);
    }
}
