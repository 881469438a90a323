//! DNS as the gateway's clients use it: at an address of its port, and at a Service's address.

use std::time::Duration;

use crate::service::{Policy, Service};
use crate::site::{Layout, NODE, Site, until};

/// The addresses of a Service whose endpoint is the gateway itself.
const CLUSTER_DNS: [&str; 2] = ["10.96.0.53", "fd00:96::53"];

#[test]
fn dig_asks_the_gateway_and_a_service_address() {
    let Some(site) = site() else { return };
    for server in NODE.iter().chain(&CLUSTER_DNS) {
        for transport in ["+notcp", "+tcp"] {
            let dig = |question: &str| {
                let line = format!("dig @{server} +short +tries=1 +time=3 {transport} {question}");
                site.client.sh(5, &line).trim().to_owned()
            };
            assert_eq!(dig("shared.default.svc.cluster.local A"), "10.96.0.10", "{server}");
            assert_eq!(dig("shared.default.svc.cluster.local AAAA"), "fd00:96::10", "{server}");
            assert_eq!(dig("-x 10.96.0.10"), "shared.default.svc.cluster.local.", "{server}");
        }
    }
    assert!(site.metrics().sum("dns_queries_total") >= 24);
}

#[test]
fn glibc_resolves_names_and_addresses() {
    let Some(site) = site() else { return };
    let [v4, v6] = CLUSTER_DNS;
    for server in [NODE[0], v4, v6] {
        let text = format!(
            "nameserver {server}\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:2\n"
        );
        let resolv = site.file("resolv.conf", &text);
        let getent = |question: &str| {
            let resolv = resolv.display();
            let script =
                format!("mount --bind {resolv} /etc/resolv.conf && exec getent {question}");
            let mut command = site.client.command("timeout");
            command.args(["-s", "KILL", "20", "unshare", "-m", "sh", "-c", &script]);
            String::from_utf8(command.output().expect("it runs").stdout).expect("text")
        };
        let found = getent("ahosts shared");
        for address in ["10.96.0.10", "fd00:96::10"] {
            let line = found.lines().find(|line| line.starts_with(&format!("{address} ")));
            assert!(line.is_some(), "{server}: {address} is missing: {found:?}");
        }
        assert!(found.contains("shared.default.svc.cluster.local"), "{server}: {found:?}");
        assert!(
            getent("hosts 10.96.0.10").contains("shared.default.svc.cluster.local"),
            "{server}"
        );
        assert_eq!(getent("ahosts nobody.default.svc.cluster.local"), "", "{server}");
    }
}

/// A site whose DNS server has a Service.
fn site() -> Option<Site> {
    let site = Site::new(Layout::default(), &[Service::new("shared", 10, Policy::Cluster)])?;
    let [v4, v6] = CLUSTER_DNS;
    let ports = "ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]";
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: kube-dns}}\nspec:\n  clusterIP: {v4}\n  clusterIPs: [{v4}, \"{v6}\"]\n  \
         ipFamilies: [IPv4, IPv6]\n  {ports}\n"
    );
    for (family, address) in ["IPv4", "IPv6"].into_iter().zip(NODE) {
        yaml += &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: kube-dns-{}\n  \
             labels: {{kubernetes.io/service-name: kube-dns}}\naddressType: {family}\n{ports}\nendpoints: [{{addresses: [\"{address}\"]}}]\n",
            family.to_lowercase()
        );
    }
    site.file("manifests/kube-dns.yaml", &yaml);
    until(Duration::from_secs(10), "the Service answers", || {
        let line = format!("dig @{v6} +short +tries=1 +time=1 dns-version.cluster.local TXT");
        site.client.output(3, &line).stdout.starts_with(b"\"1.1.0\"")
    });
    Some(site)
}
