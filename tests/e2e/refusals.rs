//! What nobody serves is refused at once, not waited for.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::client::{curl, source_for, udp};
use crate::service::{ECHO, Endpoint, HTTP, Kind, Policy, Service};
use crate::site::{Layout, Site};

/// "At once": far below the second after which TCP tries again.
const AT_ONCE: Duration = Duration::from_millis(500);

/// REJ-1, REJ-6.
#[test]
fn a_service_without_endpoints_is_refused_at_once() {
    let services = [
        Service::new("shared", 10, Policy::Cluster).with([Endpoint::Absent; 2]),
        Service::new("kept", 20, Policy::Local).with([Endpoint::Absent; 2]),
    ];
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services.iter().flat_map(Service::vips) {
        site.client.run(|| {
            refused_by_tcp(vip.at(&HTTP));
            refused_by_udp(vip.at(&ECHO));
        });
    }
}

/// REJ-10.
#[test]
fn an_unknown_port_of_a_vip_is_refused() {
    let services = [Service::new("shared", 10, Policy::Cluster)];
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services[0].vips() {
        let unknown = SocketAddr::new(vip.ip, 4242);
        site.client.run(|| {
            // At a node port's address it is the node's own kernel that answers.
            refused_by_tcp(unknown);
            refused_by_udp(unknown);
        });
    }
}

/// REJ-10: addresses of the service range that no Service has.
#[test]
fn an_unallocated_cluster_ip_is_dropped_and_counted() {
    let Some(site) = Site::new(Layout::default(), &[]) else { return };
    for address in ["10.96.9.9:80", "[fd00:96::9999]:80"] {
        let to: SocketAddr = address.parse().expect("an address");
        let error = site.client.run(|| TcpStream::connect_timeout(&to, AT_ONCE));
        assert_eq!(error.expect_err("nobody is there").kind(), ErrorKind::TimedOut, "{address}");
    }
    assert!(site.metrics().dropped("service_address_unallocated") >= 2);
}

/// REJ-2: nobody is local to a gateway without pods. The external policy has a list of its own.
#[test]
fn internal_local_is_silent_on_an_edge_gateway_and_external_local_is_not() {
    let services = [Service::new("kept", 20, Policy::Local).internal_local()];
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for vip in services[0].vips() {
        let (source, to) = (source_for(vip.ip), vip.at(&HTTP));
        if vip.kind == Kind::ClusterIp {
            let error = site.client.run(|| TcpStream::connect_timeout(&to, AT_ONCE));
            assert_eq!(error.expect_err("nobody answers").kind(), ErrorKind::TimedOut, "{to}");
        } else {
            assert_eq!(curl(&site.client, source, to).expect("an answer").client, source);
        }
    }
    let metrics = site.metrics();
    let reason = "service=\"kept\",reason=\"no_local_endpoint_internal\"";
    assert!(metrics.dropped("no_local_endpoint_internal") >= 2, "one by each family");
    assert!(metrics.sum_of("service_refused_packets_total", reason) >= 2, "and the Service's");
}

/// Inside the client's namespace.
pub(crate) fn refused_by_tcp(to: SocketAddr) {
    let begin = Instant::now();
    let error = TcpStream::connect_timeout(&to, Duration::from_secs(3)).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    assert!(begin.elapsed() < AT_ONCE, "{to}: after {:?}", begin.elapsed());
}

/// The same; the socket is told by ICMP.
pub(crate) fn refused_by_udp(to: SocketAddr) {
    let socket = udp(source_for(to.ip()), 0);
    socket.connect(to).expect("UDP connects without a packet");
    socket.set_read_timeout(Some(AT_ONCE)).expect("not zero");
    socket.send(b"anybody?").expect("the first packet knows nothing");
    let error = socket.recv(&mut [0; 16]).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
}
