//! Endpoints come and go while clients talk.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::client::{connect, download, request, source_for, udp, who};
use crate::refusals::{refused_by_tcp, refused_by_udp};
use crate::service::Endpoint::{self, Absent, Ready, Terminating};
use crate::service::{ECHO, HTTP, IPERF_TCP, Policy, Service, TALK, Vip};
use crate::site::{BACKENDS, CLIENT, Layout, Site, until};

/// The states a Service goes through in the churn below; each backend is ready, terminating and gone in turn.
const CHURN: [[Endpoint; 2]; 6] = [
    [Ready, Ready],
    [Terminating, Ready],
    [Absent, Ready],
    [Ready, Terminating],
    [Ready, Absent],
    [Absent, Absent],
];

/// CTK-1, CTK-7.
#[test]
fn downloads_outlive_every_change_of_endpoints() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let before = site.metrics().sum("table_generation");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let _done = SetOnDrop(&done);
        scope.spawn(|| {
            let states = CHURN.iter().cycle();
            for state in states.take_while(|_| !done.load(Ordering::SeqCst)) {
                site.write(&services.clone().map(|service| service.with(*state)));
                thread::sleep(Duration::from_millis(100));
            }
        });
        for vip in services.iter().flat_map(Service::balanced) {
            let begin = Instant::now();
            let refused = |result: &io::Result<()>| {
                result.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)
            };
            let result = site.client.run(|| {
                let mut tries = (0..50).map(|_| download(vip.at(&HTTP), 50 << 20, pace(begin)));
                // Refused: begun while there was no endpoint at all, which lasts for a while.
                let paused = |result: &io::Result<()>| {
                    if refused(result) {
                        thread::sleep(Duration::from_millis(20));
                    }
                    !refused(result)
                };
                tries.find(paused).expect("not refused for ever")
            });
            result.unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        }
    });
    let published = site.metrics().sum("table_generation") - before;
    assert!(published > 20, "only {published} changes were published meanwhile");
}

/// Slows a download down so that it lasts through some rounds of changes.
fn pace(begin: Instant) -> impl FnMut(u64) {
    move |bytes| {
        let due = begin + Duration::from_micros(bytes / 28);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// CTK-2, CTK-13: the client never changes its port, and never stops sending for longer than any UDP time-out.
#[test]
fn a_udp_client_moves_to_the_live_backend() {
    let services = services();
    let Some(mut site) = Site::new(Layout::default(), &services) else { return };
    for (index, vip) in (0..).zip(services.iter().flat_map(Service::balanced)) {
        let socket = site.client.run(|| udp(source_for(vip.ip), 7000 + index));
        let old = who(&socket, vip.at(&ECHO)).expect("both backends live").backend;
        let dead = BACKENDS.iter().position(|place| place.name == old).expect("one of ours");
        site.backends[dead] = None;
        let mut state = [Ready; 2];
        state[dead] = Absent;
        site.write(&services.clone().map(|service| service.with(state)));
        let lost = count_lost(&socket, vip.at(&ECHO), &old);
        // 50 ms each; reading the file takes most of the time.
        println!("{lost} datagrams lost on the way to the live backend");
        assert!(lost <= 20, "{vip:?}: {lost} datagrams lost");
        site.backends[dead] = Some(Backend::start(&site.backend, &BACKENDS[dead]));
        site.apply(&services);
    }
    assert!(site.metrics().sum("conntrack_reclassified_total") >= 4);
}

/// Datagrams without an answer until five in a row were answered by somebody else.
fn count_lost(socket: &UdpSocket, to: SocketAddr, old: &str) -> u32 {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("not zero");
    let (mut lost, mut answered) = (0, 0);
    while answered < 5 && lost < 200 {
        match who(socket, to) {
            Ok(reply) => {
                assert_ne!(reply.backend, old, "it is dead");
                answered += 1;
                thread::sleep(Duration::from_millis(50));
            }
            Err(_) => (lost, answered) = (lost + 1, 0),
        }
    }
    lost
}

/// The kernel of a killed backend resets its connections, and the client learns it; new connections go elsewhere.
#[test]
fn a_killed_backend_resets_its_connections() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    for (index, vip) in services.iter().flat_map(Service::balanced).enumerate() {
        let place = &BACKENDS[index % BACKENDS.len()];
        let mut state = [Absent; 2];
        state[index % BACKENDS.len()] = Ready;
        site.apply(&services.clone().map(|service| service.with(state)));
        let address = place.addresses[usize::from(vip.ip.is_ipv6())];
        let port = IPERF_TCP.target;
        let server = match address.contains(':') {
            true => format!("socat TCP6-LISTEN:{port},bind=[{address}],reuseaddr PIPE"),
            false => format!("socat TCP4-LISTEN:{port},bind={address},reuseaddr PIPE"),
        };
        let server = site.backend.serve(&server);
        until(Duration::from_secs(5), "socat listens", || {
            site.backend.sh(5, &format!("ss -Hltn sport = :{port}")).contains(address)
        });
        let mut stream = site.client.run(|| connect(vip.at(&IPERF_TCP))).expect("socat accepts");
        assert!(echoes(&mut stream), "{vip:?}");
        server.kill();
        until(Duration::from_secs(2), "the client learns it", || {
            stream.write_all(b"x").is_err_and(|error| {
                matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
            })
        });
        let other = 1 - index % BACKENDS.len();
        state.swap(0, 1);
        site.apply(&services.clone().map(|service| service.with(state)));
        for _ in 0..10 {
            let backend = site.client.run(|| request(&vip)).expect("the other one lives");
            assert_eq!(backend, BACKENDS[other].name);
        }
    }
}

/// SYN-4.
#[test]
fn scale_to_zero_and_back() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let none = services.clone().map(|service| service.with([Absent; 2]));
    let vips: Vec<_> = services.iter().flat_map(Service::vips).collect();
    let sockets = site.client.run(|| [0, 1].map(|f| udp(CLIENT[f], 7100)));
    for _ in 0..3 {
        site.client.run(|| {
            for vip in &vips {
                request(vip).unwrap_or_else(|error| panic!("{vip:?}: {error}"));
                // The same flow every time: it must not stick to what was before.
                let socket = &sockets[usize::from(vip.ip.is_ipv6())];
                who(socket, vip.at(&ECHO)).unwrap_or_else(|error| panic!("{vip:?}: {error}"));
            }
        });
        site.apply(&none);
        site.client.run(|| {
            for vip in &vips {
                refused_by_tcp(vip.at(&HTTP));
                refused_by_udp(vip.at(&ECHO));
            }
        });
        site.apply(&services);
    }
}

/// Established connections live on; the address serves nobody new, until the Service is there again.
#[test]
fn a_deleted_service_takes_no_new_connections() {
    let services = services();
    let Some(site) = Site::new(Layout::default(), &services) else { return };
    let vips = services[0].balanced();
    let mut streams = site.client.run(|| vips.map(|vip| talk(&vip)));
    site.apply(&services[1..]);
    for (vip, stream) in vips.iter().zip(&mut streams) {
        assert!(echoes(stream), "{vip:?}: an established connection has ended");
        let short = Duration::from_millis(500);
        let new = site.client.run(|| TcpStream::connect_timeout(&vip.at(&HTTP), short));
        new.expect_err("the Service is gone");
    }
    site.apply(&services);
    for vip in &vips {
        site.client.run(|| request(vip)).expect("it is back");
    }
}

/// A connection to the line-by-line echo, inside the client's namespace.
fn talk(vip: &Vip) -> TcpStream {
    let mut stream = connect(vip.at(&TALK)).expect("a backend lives");
    assert!(echoes(&mut stream), "{vip:?}");
    stream
}

/// Whether a line comes back.
fn echoes(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    stream.write_all(b"hello\n").is_ok()
        && stream.read(&mut buffer).is_ok_and(|length| buffer[..length].ends_with(b"hello\n"))
}

/// Sets a flag when it goes, be it by a panic.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn services() -> [Service; 2] {
    [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)]
}
