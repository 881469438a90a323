//! iperf3 through load balancers; the receiving kernels verify every checksum.

use std::time::Duration;

use serde_json::Value;

use crate::garbage;
use crate::netns::Namespace;
use crate::service::{ECHO, Endpoint, Policy, Service};
use crate::site::{BACKENDS, Layout, Site, until};

#[test]
fn iperf3_tcp_and_udp_through_load_balancers_v4_and_v6() {
    // iperf3 uses several connections, which must all find the same server.
    let one = [Endpoint::Ready, Endpoint::Absent];
    let services =
        [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)];
    let services = services.map(|service| service.with(one));
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let _servers = BACKENDS[0].addresses.map(|address| {
        let server = site.backend.serve(&format!("iperf3 -s -B {address}"));
        until(Duration::from_secs(5), "iperf3 listens", || {
            site.backend.sh(5, "ss -Hltn sport = :5201").contains(address)
        });
        server
    });
    let wrong = || [&site.client, &site.backend].map(|end| end.counted("CsumErrors"));
    let before = wrong();
    for (service, seconds) in services.iter().zip([5, 2]) {
        for vip in service.balanced() {
            let (client, name) = (&site.client, &vip.ip);
            let tcp = iperf3(client, &format!("{name} -t {seconds}"));
            let received = &tcp["end"]["sum_received"]["bits_per_second"];
            let again = &tcp["end"]["sum_sent"]["retransmits"];
            println!("{name}: TCP {received} bit/s, {again} segments sent again");
            assert!(received.as_f64() > Some(20e6), "{name}: {received} bit/s");
            // Backend to client, too.
            iperf3(client, &format!("{name} -t 1 -R"));
            let udp = iperf3(client, &format!("{name} -u -b 20M -l 1200 -t 2"));
            let lost = &udp["end"]["sum"]["lost_packets"];
            assert_eq!(lost.as_i64(), Some(0), "{name}: {}", udp["end"]["sum"]);
        }
    }
    assert_eq!(wrong(), before, "checksums that the kernels found wrong");
}

/// The control of the test above: the gateway neither repairs nor hides what was wrong before it.
#[test]
fn a_wrong_checksum_reaches_the_kernel_that_counts_it() {
    let services = [Service::new("kept", 20, Policy::Local)];
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let vip = services[0].balanced()[0];
    let wrong = || site.backend.counted("UdpInCsumErrors");
    let before = wrong();
    site.client.run(|| garbage::send_wrong_udp(vip.at(&ECHO)));
    until(Duration::from_secs(3), "the backend's kernel counts it", || wrong() == before + 1);
}

fn iperf3(client: &Namespace, arguments: &str) -> Value {
    let text = client.sh(20, &format!("iperf3 -J --connect-timeout 3000 -c {arguments}"));
    serde_json::from_str(&text).expect("iperf3 speaks JSON")
}
