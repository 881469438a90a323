//! What a process says about itself: over the admin socket, over HTTP, and on the screen.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use control::admin::{
    self, Admin, Connections, Devices, DropCount, PoolFacts, PoolStatus, PortFacts, PortStatus,
    Servers, ServiceStatus, SourceStatus, Status, TableStatus, WorkerFacts, WorkerStatus,
};
use control::assembly::Assembly;
use control::cluster::NodeFacts;
use control::control::{Control, Handle, Update};
use control::events::{self, EventReason};
use control::object::node::Leaving;
use control::object::{Kind, Object, Slice};
use control::publish::TablesPublisher;
use control::settings::Settings;
use control::source::manifests::Manifests;
use control::source::{Change, Event, Link};
use dataplane::counters::WorkerCounters;
use dataplane::fib::{Fib, FibSpec, PortSpec};
use dataplane::hash::HashKey;
use dataplane::service::ServiceTable;
use dataplane::service::tally::{Count, Tallies};
use dataplane::snapshot::{self, Reader};
use dataplane::tables::Tables;
use dataplane::verdict::DropReason;
use k8s_openapi::jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Two ports whose links can be pulled.
#[derive(Debug, Default)]
struct Machine {
    down: Mutex<Vec<&'static str>>,
}

impl Devices for Machine {
    fn ports(&self) -> Vec<PortFacts> {
        let down = self.down.lock().expect("not poisoned");
        let port = |name: &str, mac| PortFacts {
            name: name.to_owned(),
            driver: "net_virtio".to_owned(),
            mac: [2, 0, 0, 0, 0, mac],
            mtu: 1500,
            link_up: !down.contains(&name),
            link_mbps: Some(25_000),
            missed: 7,
            ..PortFacts::default()
        };
        vec![port("uplink", 1), port("cluster", 2)]
    }

    fn pools(&self) -> Vec<PoolFacts> {
        vec![PoolFacts { name: "packets".to_owned(), size: 65_535, free: 60_000 }]
    }
}

/// A process with two workers, of which the test is the workers and the source.
struct Process {
    machine: Arc<Machine>,
    workers: Vec<Arc<WorkerCounters>>,
    tallies: Vec<Arc<Tallies>>,
    readers: Vec<Reader<Tables>>,
    control: Handle,
    admin: Arc<Admin>,
    /// Ends the control loop's thread; dropping it does so, too.
    stop_control: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl Process {
    fn new() -> Self {
        Self::patient_for(Duration::from_secs(60))
    }

    /// With workers that may take so long to pick up tables.
    fn patient_for(patience: Duration) -> Self {
        let key = HashKey::new(1);
        let first = Tables {
            services: ServiceTable::new(key),
            fib: Arc::new(Fib::new(&FibSpec {
                ports: vec![
                    PortSpec {
                        addresses: vec!["192.0.2.1".parse().expect("valid")],
                        mtu: 1500,
                        mss_clamp: None,
                        mac: [2; 6],
                    };
                    2
                ],
                ..FibSpec::default()
            })),
            node: Arc::default(),
        };
        let (publisher, readers) = snapshot::channel(first.clone(), 2);
        let assembly = Assembly::new(Settings::default(), key);
        let (control_loop, control) =
            Control::new(assembly, TablesPublisher::new(publisher, first));
        let (stop_control, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    () = control_loop.run() => (),
                    _ = stopped => (),
                }
            });
        });

        let machine = Arc::new(Machine::default());
        let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerCounters::new(2))).collect();
        let tallies: Vec<_> = (0..2).map(|_| Arc::new(Tallies::new(16))).collect();
        let facts = (4..).zip(&workers).zip(&tallies).map(|((core, counters), tallies)| {
            WorkerFacts { core, counters: counters.clone(), tallies: tallies.clone() }
        });
        let admin = Admin::new(
            facts.collect(),
            machine.clone(),
            control.clone(),
            Arc::default(),
            Arc::default(),
        );
        let admin = Arc::new(admin.patient_for(patience));
        Self {
            machine,
            workers,
            tallies,
            readers,
            control,
            admin,
            stop_control: Some((stop_control, thread)),
        }
    }

    /// With everything in order and some traffic behind it.
    fn running() -> Self {
        let mut process = Self::new();
        process.load(SERVICES);
        process.refresh();
        process.admin.sample();
        for worker in &process.workers {
            worker.work.polls.add(1000);
            worker.work.busy_polls.add(100);
            worker.work.cycles.add(1_000_000);
            worker.work.busy_cycles.add(250_000);
            worker.work.forwarded.add(1200);
            worker.ports[0].rx_frames.add(1250);
            worker.ports[0].rx_bytes.add(80_000);
            worker.ports[1].tx_frames.add(1200);
            worker.ports[1].tx_bytes.add(76_800);
            worker.conntrack.capacity.set(1_250_000);
            worker.conntrack.entries.set(500);
            worker.conntrack.half_open.set(20);
            worker.drops[DropReason::NoRoute as usize].add(5);
        }
        process.workers[0].drops[DropReason::Martian as usize].add(40);
        process.admin.sample();
        process
    }

    fn send(&self, event: Event) {
        let sent = self.control.send(Update::Object(event));
        runtime().block_on(sent).expect("the control loop runs");
    }

    /// Gives the control loop these manifests and waits until they are published.
    fn load(&self, manifests: &str) {
        let mut source = Manifests::new("unused", &Settings::default());
        for event in source.load_text("test.yaml", manifests) {
            self.send(event);
        }
        self.send(Event::Link(Kind::Service, Link::Connected));
        let published = self.control.wait_for(|status| status.synced && status.generation > 1);
        runtime().block_on(published).expect("the control loop runs");
    }

    /// The workers take the newest tables, and the control loop hears of it.
    fn refresh(&mut self) {
        for reader in &mut self.readers {
            while reader.version() < self.control.status().generation {
                reader.refresh();
            }
        }
        let held = self.control.wait_for(|status| status.acknowledged == status.generation);
        runtime().block_on(held).expect("the control loop runs");
    }

    /// A worker counts for a Service, as often as `times` says.
    fn count(&self, worker: usize, service: &str, count: Count, times: u64) {
        let name = service.to_owned();
        let place = self.control.inspect(move |view| {
            let mut places = view.assembly.writer().places();
            places.find(|(service, ..)| ***service == *name).map(|(_, _, place)| place)
        });
        let place = runtime().block_on(place).expect("the control loop runs");
        let place = place.expect("the Service has rows");
        (0..times).for_each(|_| self.tallies[worker].add(place, count));
        if count == Count::OneWay {
            self.workers[worker].conntrack.one_way.add(times);
        }
    }

    fn status(&self) -> Status {
        runtime().block_on(self.admin.status())
    }
}

/// One Service with two backends of three, and one without any.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 172.30.0.10
  externalIPs: [203.0.113.10]
  ports: [{name: https, port: 443, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: https, port: 8443, protocol: TCP}]
endpoints:
  - {addresses: [10.0.1.2], conditions: {ready: true}}
  - {addresses: [10.0.1.3], conditions: {ready: true}}
  - {addresses: [10.0.1.4], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: shop}
spec:
  clusterIP: 172.30.0.11
  ports: [{port: 53, protocol: UDP}]
";

/// A directory of its own, gone at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("vipgate-admin-{}-{id}", std::process::id()));
        std::fs::create_dir(&path).expect("a fresh directory");
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/vipgate.sock")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Servers on a thread of their own; stopped when dropped.
struct Running {
    http: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(process: &Process, socket: &Path) -> Self {
        let (admin, socket) = (process.admin.clone(), socket.to_owned());
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let servers = Servers::bind(&socket, ANY).await.expect("free addresses");
                bound.send(servers.http_address().expect("bound")).expect("the test waits");
                tokio::select! {
                    () = servers.run(admin) => unreachable!("servers run for ever"),
                    _ = stopped => (),
                }
            });
        });
        let http = address.recv().expect("servers were bound");
        Self { http, stop: Some(stop), thread: Some(thread) }
    }

    /// Status line and body.
    fn get(&self, path: &str, accept: &str) -> (String, String) {
        let mut stream = std::net::TcpStream::connect(self.http).expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.lines().next().expect("a status line").to_owned(), body.to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What the socket says to these bytes.
fn say(socket: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    // The server may answer and hang up before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn the_socket_tells_the_status() {
    let (process, dir) = (Process::running(), Dir::new());
    let _running = Running::start(&process, &dir.socket());
    let told = admin::status(&dir.socket()).expect("it answers");
    assert_eq!(told.ports, process.status().ports);
    assert_eq!(
        told.services,
        [
            service("shop/empty:53", &["udp 172.30.0.11:53"], 0),
            service("shop/web:https", &["tcp 172.30.0.10:443", "tcp 203.0.113.10:443"], 2),
        ]
    );
    assert_eq!(told.source.state, "connected");
    assert_eq!(told.connections.entries, 1000);
    assert_eq!(told.drops[0].reason, "martian");
    assert_eq!(told.drops[1].packets, 10);

    let answer = say(&dir.socket(), b"{\"version\":1,\"command\":\"status\"}\n");
    assert!(answer.starts_with("{\"version\":1,\"status\":{\"version\":\""), "{answer}");
    assert!(answer.ends_with("}\n"), "{answer}");
    // A client without a line end says that it is done by closing its side.
    let mut stream = UnixStream::connect(dir.socket()).expect("it listens");
    stream.write_all(b"{\"version\":1,\"command\":\"status\"}").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("closed");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.contains("\"uplink\""), "{answer}");
}

#[test]
fn the_socket_refuses_what_it_does_not_understand() {
    let (process, dir) = (Process::running(), Dir::new());
    let _running = Running::start(&process, &dir.socket());
    let long = vec![b'x'; 2 << 20];
    let cases: &[(&[u8], &str)] = &[
        (b"status\n", "not a request: expected value at line 1 column 1"),
        (b"\n", "not a request: EOF while parsing a value at line 1 column 0"),
        (
            b"{\"command\":\"status\"}\n",
            "not a request: missing field `version` at line 1 column 20",
        ),
        (b"{\"version\":2,\"order\":1}\n", "this vipgate speaks version 1, not 2"),
        (
            b"{\"version\":1,\"command\":\"stop\"}\n",
            "not a request: unknown variant `stop`, expected `status` or `explain` at line 1 column 29",
        ),
        (&long, "a request has at most 1048576 bytes"),
    ];
    for (request, error) in cases {
        let answer: serde_json::Value =
            serde_json::from_str(&say(&dir.socket(), request)).expect("JSON");
        assert_eq!(answer, serde_json::json!({"version": 1, "error": error}));
    }
}

#[test]
fn idle_clients_lose_their_places() {
    let (process, dir) = (Process::running(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    let mut idle: Vec<UnixStream> =
        (0..16).map(|_| UnixStream::connect(dir.socket()).expect("a place")).collect();
    assert!(running.get("/livez", "*/*").0.ends_with("200 OK"), "HTTP has its own places");
    // The next client waits until the idle ones are hung up on, which takes five seconds.
    admin::status(&dir.socket()).expect("a place comes free");
    let mut silent = idle.pop().expect("a client");
    let mut answer = Vec::new();
    assert_eq!(silent.read_to_end(&mut answer).expect("hung up on"), 0);
}

#[test]
fn the_socket_file_comes_and_goes_with_the_process() {
    let (process, dir) = (Process::running(), Dir::new());
    let socket = dir.socket();
    let unreachable = admin::status(&socket).expect_err("nobody is there").to_string();
    assert!(unreachable.starts_with(&format!("cannot reach vipgate at {}: ", socket.display())));

    // A file nobody listens behind is what a killed process leaves.
    std::fs::create_dir_all(socket.parent().expect("a directory")).expect("made");
    drop(UnixListener::bind(&socket).expect("a stale socket"));
    assert!(socket.exists());

    let running = Running::start(&process, &socket);
    assert_eq!(std::fs::metadata(&socket).expect("bound").permissions().mode() & 0o777, 0o600);
    admin::status(&socket).expect("the stale file was replaced");
    let names = std::fs::read_dir(socket.parent().expect("a directory")).expect("readable");
    assert_eq!(names.count(), 1, "no private name stays behind");

    let second = runtime().block_on(Servers::bind(&socket, ANY)).expect_err("taken");
    assert_eq!(
        second.to_string(),
        format!(
            "cannot listen on admin socket {}: another process answers there; is vipgate running already?",
            socket.display()
        )
    );
    let taken = runtime().block_on(Servers::bind(&dir.0.join("other"), running.http));
    let taken = taken.expect_err("taken").to_string();
    assert!(
        taken.starts_with(&format!("cannot listen on HTTP address {}: ", running.http)),
        "{taken}"
    );

    drop(running);
    assert!(!socket.exists());
    std::fs::write(&socket, "precious").expect("written");
    let refused = runtime().block_on(Servers::bind(&socket, ANY)).expect_err("no socket");
    assert!(refused.to_string().ends_with("a file that is no socket is there"), "{refused}");
    assert_eq!(std::fs::read_to_string(&socket).expect("left alone"), "precious");
}

#[test]
fn a_successors_socket_file_is_left_alone() {
    let (process, dir) = (Process::running(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    std::fs::remove_file(dir.socket()).expect("removed");
    let _successor = UnixListener::bind(dir.socket()).expect("free");
    drop(running);
    assert!(dir.socket().exists());
}

#[test]
fn readiness_says_which_check_failed() {
    let mut process = Process::new();
    let failed = |process: &Process| -> Vec<String> {
        process.admin.readiness().failed().map(ToString::to_string).collect()
    };
    assert_eq!(
        failed(&process),
        ["tables: no complete list of Services yet", "workers: not seen polling: core 4, core 5"]
    );
    process.admin.sample();
    process.workers.iter().for_each(|worker| worker.work.polls.add(1));
    process.admin.sample();
    process.load(SERVICES);
    assert_eq!(failed(&process), ["tables: the first tables are not yet held by every worker"]);
    process.refresh();
    assert_eq!(failed(&process), [""; 0]);

    // Later tables may wait for a worker, and the source may be gone: packets are served all the same.
    process.load("");
    let error = "connection refused".to_owned();
    process.send(Event::Link(Kind::Service, Link::Stale { since: SystemTime::now(), error }));
    let stale = process.control.wait_for(|status| matches!(status.source, Link::Stale { .. }));
    runtime().block_on(stale).expect("the control loop runs");
    assert!(process.admin.readiness().ready);

    process.machine.down.lock().expect("not poisoned").push("cluster");
    process.workers[0].work.polls.add(1);
    process.admin.sample();
    assert_eq!(
        failed(&process),
        ["ports: no link on cluster", "workers: not seen polling: core 5"]
    );
}

#[test]
fn health_pages_follow_readiness() {
    let (mut process, dir) = (Process::new(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    // HCK-10: nothing is wrong yet with a process that starts, but nobody should send it packets.
    let (code, body) = running.get("/livez", "*/*");
    assert!(code.ends_with("200 OK") && body.starts_with("{\"lastUpdated\":\""), "{body}");
    assert!(!body.contains("nodeEligible"), "{body}");
    let (code, body) = running.get("/healthz", "*/*");
    assert!(code.ends_with("200 OK") && body.ends_with("\"nodeEligible\":true}"), "{body}");
    let (code, body) = running.get("/attractz", "*/*");
    assert_eq!(code, "HTTP/1.1 503 Service Unavailable");
    assert!(body.starts_with("tables: no complete list of Services yet\n"), "{body}");
    let (code, body) = running.get("/readyz", "*/*");
    assert_eq!(code, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(
        body,
        "tables: no complete list of Services yet\nports: ok\nworkers: not seen polling: core 4, core 5\n"
    );
    let (_, body) = running.get("/readyz", "application/json");
    assert!(
        body.starts_with("{\"ready\":false,\"checks\":[{\"name\":\"tables\",\"problem\":\""),
        "{body}"
    );
    assert!(running.get("/nothing", "*/*").0.contains("404"));

    process.load(SERVICES);
    process.refresh();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        process.workers.iter().for_each(|worker| worker.work.polls.add(1));
        let (code, body) = running.get("/readyz", "*/*");
        if code == "HTTP/1.1 200 OK" {
            assert_eq!(body, "tables: ok\nports: ok\nworkers: ok\n");
            assert_eq!(running.get("/attractz", "*/*").1, "ok\n");
            break;
        }
        assert!(Instant::now() < deadline, "{body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn hck_12_a_node_that_goes_is_not_eligible_but_alive() {
    let (mut process, dir) = (Process::new(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    let settings: Settings = serde_saphyr::from_str("{nodeName: n1}").expect("valid");
    runtime().block_on(process.control.send(Update::Settings(settings))).expect("it runs");
    process.load(SERVICES);
    process.refresh();
    let node = |metadata: &str, spec: &str| {
        format!(
            "{SERVICES}---\n{{apiVersion: v1, kind: Node, metadata: {{name: n1{metadata}}}, spec: {{{spec}}}}}\n"
        )
    };
    let taint = "taints: [{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]";
    let deleted = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
    for (manifests, reason) in [
        (SERVICES.to_owned(), None),
        (node("", "unschedulable: true"), None),
        (node("", taint), Some("node: the cluster autoscaler is about to delete the node")),
        (node("", ""), None),
        (node(deleted, ""), Some("node: the Node object is being deleted")),
        // Its object is gone: nothing says that it is to leave any more.
        (SERVICES.to_owned(), None),
    ] {
        process.load(&manifests);
        let eligible = format!("\"nodeEligible\":{}}}", reason.is_none());
        until("HCK-12: the node's state", || {
            process.workers.iter().for_each(|worker| worker.work.polls.add(1));
            let (code, body) = running.get("/healthz", "*/*");
            let (routed, reasons) = running.get("/attractz", "*/*");
            code.ends_with(if reason.is_none() { "200 OK" } else { "503 Service Unavailable" })
                && body.ends_with(&eligible)
                && routed.ends_with(if reason.is_none() {
                    "200 OK"
                } else {
                    "503 Service Unavailable"
                })
                && reason.is_none_or(|reason| reasons.lines().any(|line| line == reason))
        });
        assert!(running.get("/livez", "*/*").0.ends_with("200 OK"));
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(ANY).expect("some port is free");
    listener.local_addr().expect("bound").port()
}

/// What a health check says: status line, weight and body; `None` when nobody listens.
fn health_check(port: u16, request: &str) -> Option<(String, String, String)> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| line.split_once(": ")).map(|(_, value)| value.to_owned())
    };
    assert_eq!(header("content-type").as_deref(), Some("application/json"), "HCK-3");
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"), "HCK-3");
    let weight = header("x-load-balancing-endpoint-weight").expect("HCK-3");
    Some((head.lines().next()?.to_owned(), weight, body.to_owned()))
}

/// A Service with a health check of its own, unless the policy is Cluster.
fn balanced(port: u16, policy: &str, ports: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  type: LoadBalancer
  clusterIP: 172.30.0.10
  externalTrafficPolicy: {policy}
  healthCheckNodePort: {port}
  ports: [{ports}]
"
    )
}

/// The beginning of its slice: what follows are endpoints.
fn slice(ports: &str) -> String {
    format!(
        "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{ports}]
endpoints:
"
    )
}

/// Waits for a health check to say something.
fn until(what: &str, met: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !met() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn hck_1_to_hck_6_health_checks_follow_the_objects() {
    let (mut process, dir) = (Process::new(), Dir::new());
    let _running = Running::start(&process, &dir.socket());
    let (first, second) = (free_port(), free_port());
    let service = |port: u16, policy: &str| {
        balanced(port, policy, "{name: http, port: 80}, {name: https, port: 443}")
            + &slice("{name: http, port: 8080}, {name: https, port: 8443}")
    };
    let ready =
        "- {addresses: [10.0.1.2], nodeName: n1}\n- {addresses: [10.0.1.3], nodeName: n1}\n";
    let far = "- {addresses: [10.0.1.4], nodeName: n2}\n";
    let draining = "- {addresses: [10.0.1.2], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}\n";
    let settings: Settings = serde_saphyr::from_str("{nodeName: n1}").expect("valid");
    runtime().block_on(process.control.send(Update::Settings(settings))).expect("it runs");
    process.load(&(service(first, "Local") + ready + far));
    process.refresh();
    until("HCK-3: ready and healthy", || {
        process.workers.iter().for_each(|worker| worker.work.polls.add(1));
        health_check(first, "GET /healthz").is_some_and(|(code, ..)| code.ends_with("200 OK"))
    });
    // HCK-2: any path and method; HCK-5: an address counts once, whatever its ports.
    let (_, weight, body) = health_check(first, "POST /any").expect("it listens");
    assert_eq!(weight, "2");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "service": {"namespace": "shop", "name": "web"},
        "localEndpoints": 2,
        "serviceProxyHealthy": true,
    });
    assert_eq!(body, expected, "HCK-4");

    process.load(&(service(first, "Local") + draining + far));
    until("HCK-5, TRM-5: endpoints that are going do not count", || {
        health_check(first, "GET /").is_some_and(|(code, weight, _)| {
            code.ends_with("503 Service Unavailable") && weight == "0"
        })
    });
    process.load(&(service(second, "Local") + ready));
    until("HCK-6: another port", || {
        health_check(first, "GET /").is_none() && health_check(second, "GET /").is_some()
    });
    process.load(&(service(second, "Cluster") + ready));
    until("HCK-6: policy Cluster has none", || health_check(second, "GET /").is_none());
}

#[test]
fn hck_7_a_port_that_is_taken_is_reported_and_tried_again() {
    let (process, dir) = (Process::new(), Dir::new());
    let _running = Running::start(&process, &dir.socket());
    let taken = std::net::TcpListener::bind("0.0.0.0:0").expect("some port is free");
    let port = taken.local_addr().expect("bound").port();
    process.load(&balanced(port, "Local", "{port: 80}"));
    let problems = || process.status().source.problems;
    until("the Service has a problem", || !problems().is_empty());
    let told = format!(
        "Service shop/web: spec.healthCheckNodePort: cannot listen on port {port} over IPv4: Address already in use"
    );
    assert!(problems()[0].starts_with(&told), "{:?}", problems());
    let findings = |view: &control::control::View<'_>| events::findings(view.assembly, 10).0;
    let findings = runtime().block_on(process.control.inspect(findings)).expect("it runs");
    let reasons: Vec<_> =
        findings.iter().map(|finding| (finding.about.to_string(), finding.reason)).collect();
    let event = ("Service shop/web".to_owned(), EventReason::FailedToStartServiceHealthcheck);
    assert!(reasons.contains(&event), "its owner is told: {reasons:?}");
    drop(taken);
    until("it listens", || health_check(port, "GET /").is_some());
    until("nothing is wrong any more", || problems().is_empty());
}

/// HCK-11, HCK-13: what was queued must reach the workers in time. Until then, and when nothing is queued, all is well, and
/// the last update is now.
#[test]
fn hck_11_hck_13_changes_that_do_not_reach_the_workers_are_ill_health() {
    let mut process = Process::patient_for(Duration::from_millis(300));
    let dir = Dir::new();
    let running = Running::start(&process, &dir.socket());
    let ask = |path: &str| {
        let (code, body) = running.get(path, "*/*");
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let time = |name: &str| {
            body[name].as_str().expect("a time").parse::<Timestamp>().expect("as in RFC 3339")
        };
        let (updated, now) = (time("lastUpdated"), time("currentTime"));
        assert_eq!(body["nodeEligible"].as_bool(), (path == "/healthz").then_some(true));
        (code.ends_with(" 200 OK"), code.ends_with(" 503 Service Unavailable"), updated, now)
    };
    let assert_well = || {
        for path in ["/healthz", "/livez"] {
            let (well, _, updated, now) = ask(path);
            assert!(well && updated == now, "{path}: {updated} {now}");
        }
    };
    assert_well();
    process.load(SERVICES);
    process.refresh();
    assert_well();
    std::thread::sleep(Duration::from_millis(400));
    assert_well();

    process.load("");
    let changed = process.control.wait_for(|status| status.acknowledged < status.generation);
    runtime().block_on(changed).expect("the control loop runs");
    for path in ["/healthz", "/livez"] {
        until("it is ill", || ask(path).1);
        let (_, _, updated, now) = ask(path);
        let behind = now.duration_since(updated);
        assert!(behind.as_millis() >= 300, "{path}: {updated} {now}");
    }
    process.refresh();
    assert_well();
}

#[test]
fn hck_14_the_mode_is_told_where_metrics_are() {
    let (process, dir) = (Process::new(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    let (code, body) = running.get("/proxyMode", "*/*");
    assert_eq!((code.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "vipgate"));
    running.get("/livez", "*/*");
    let (code, body) = running.get("/metrics", "*/*");
    assert_eq!(code, "HTTP/1.1 200 OK");
    for line in [
        "vipgate_health_answers_total{page=\"/livez\",code=\"200\"} 1",
        "vipgate_health_answers_total{page=\"/healthz\",code=\"503\"} 0",
    ] {
        assert!(body.lines().any(|found| found == line), "missing: {line}\n{body}");
    }
}

/// HCK-9: a balancer that drains a node asks `/healthz`; a Service's own health check goes on.
#[test]
fn hck_9_a_node_that_goes_still_answers_for_its_services() {
    let (mut process, dir) = (Process::new(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    let settings: Settings = serde_saphyr::from_str("{nodeName: n1}").expect("valid");
    runtime().block_on(process.control.send(Update::Settings(settings))).expect("it runs");
    let port = free_port();
    let leaving = "
---
apiVersion: v1
kind: Node
metadata: {name: n1, deletionTimestamp: '2026-01-01T00:00:00Z'}
";
    let service = balanced(port, "Local", "{name: http, port: 80}")
        + &slice("{name: http, port: 8080}")
        + "- {addresses: [10.0.1.2], nodeName: n1}\n";
    process.load(&(service + leaving));
    process.refresh();
    until("the Service is healthy here", || {
        process.workers.iter().for_each(|worker| worker.work.polls.add(1));
        let answer = health_check(port, "GET /healthz");
        answer.is_some_and(|(code, _, body)| {
            code.ends_with("200 OK") && body.contains("\"serviceProxyHealthy\":true")
        })
    });
    let (code, body) = running.get("/healthz", "*/*");
    assert!(code.ends_with("503 Service Unavailable"), "{body}");
    assert!(body.ends_with("\"nodeEligible\":false}"), "{body}");
}

#[test]
fn one_way_connections_are_told_of_their_service() {
    let (process, dir) = (Process::running(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    process.count(0, "shop/web", Count::Connections, 9);
    process.count(1, "shop/web", Count::OneWay, 2);
    process.count(0, "shop/empty", Count::NoEndpoints, 4);
    until("the Service has a problem", || process.status().source.problem_count == 1);
    let status = process.status();
    let problem = &status.source.problems[0];
    let begin = "Service shop/web: connections of clients whose addresses are kept get no answer through this gateway";
    assert!(problem.starts_with(begin), "{problem}");
    let counts = status.services.iter().map(|s| (s.connections, s.refused, s.one_way));
    assert_eq!(counts.collect::<Vec<_>>(), [(0, 4, 0), (9, 0, 2)]);
    let (_, body) = running.get("/metrics", "*/*");
    let series = "vipgate_service_one_way_connections_total{namespace=\"shop\",service=\"web\"} 2";
    assert!(body.lines().any(|line| line == series), "{body}");

    // With the Service its problem and its counts go.
    process.load("");
    until("nothing is wrong any more", || process.status().source.problem_count == 0);
    process.load(SERVICES);
    until("it is there again", || process.status().services.len() == 2);
    let counts = |status: Status| status.services.iter().map(|s| s.connections).sum::<u64>();
    assert_eq!(counts(process.status()), 0);
}

#[test]
fn the_socket_explains_flows() {
    let (process, dir) = (Process::running(), Dir::new());
    let _running = Running::start(&process, &dir.socket());
    let flows =
        ["tcp 203.0.113.7:4000 -> 172.30.0.10:443", "udp 203.0.113.7:4000 -> 172.30.0.11:53"];
    let flows = flows.iter().map(|flow| flow.parse().expect("a flow")).collect();
    let told = admin::explain(&dir.socket(), flows).expect("answered");
    let short: Vec<(&str, Option<&str>)> =
        told.iter().map(|told| (told.verdict.name(), told.service.as_deref())).collect();
    assert_eq!(short, [("drop", Some("shop/web:https")), ("reject", Some("shop/empty:53"))]);
    assert_eq!(told[0].reason.as_deref(), Some("no_route"), "the kernel has none here");
}

/// What is left to say when the control loop hangs is said all the same.
#[test]
fn a_control_loop_that_has_ended_is_told() {
    let mut process = Process::running();
    let (stop, thread) = process.stop_control.take().expect("it runs");
    drop(stop);
    // It may answer until it is gone.
    thread.join().expect("it ends in order");
    let status = process.status();
    assert_eq!(status.not_ready, ["control: the control loop does not answer"]);
    assert_eq!((status.services.len(), status.connections.entries), (0, 1000));
}

#[test]
fn metrics_are_openmetrics_with_every_family() {
    let (process, dir) = (Process::running(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    process.count(0, "shop/web", Count::Connections, 2);
    process.count(1, "shop/web", Count::Connections, 5);
    process.count(1, "shop/empty", Count::NoEndpoints, 3);
    process.count(0, "shop/web", Count::SourceNotAllowed, 1);
    let (code, body) = running.get("/metrics", "*/*");
    assert_eq!(code, "HTTP/1.1 200 OK");
    assert!(body.ends_with("# EOF\n"));
    for line in [
        "vipgate_build_info{version=\"0.1.0\"} 1",
        "vipgate_port_link_up{port=\"uplink\"} 1",
        "vipgate_port_rx_packets_total{port=\"uplink\"} 2500",
        "vipgate_port_rx_bytes_total{port=\"uplink\"} 160000",
        "vipgate_port_tx_packets_total{port=\"cluster\"} 2400",
        "vipgate_port_rx_missed_total{port=\"cluster\"} 7",
        "vipgate_port_rx_nombuf_total{port=\"cluster\"} 0",
        "vipgate_worker_polls_total{worker=\"0\",core=\"4\"} 1000",
        "vipgate_worker_bursts_total{worker=\"1\",core=\"5\"} 100",
        "vipgate_worker_cycles_total{worker=\"0\",core=\"4\",state=\"busy\"} 250000",
        "vipgate_worker_cycles_total{worker=\"0\",core=\"4\",state=\"idle\"} 750000",
        "vipgate_worker_stage_cycles_total{worker=\"0\",core=\"4\",stage=\"look_ahead\"} 0",
        "vipgate_worker_stage_packets_total{worker=\"0\",core=\"4\"} 0",
        "vipgate_worker_packets_total{worker=\"0\",core=\"4\",outcome=\"forwarded\"} 1200",
        "vipgate_worker_packets_total{worker=\"0\",core=\"4\",outcome=\"punted\"} 0",
        "vipgate_drop_packets_total{reason=\"no_route\"} 10",
        "vipgate_drop_packets_total{reason=\"icmp_limited\"} 0",
        "vipgate_conntrack_entries{worker=\"0\",core=\"4\"} 500",
        "vipgate_conntrack_capacity{worker=\"0\",core=\"4\"} 1250000",
        "vipgate_conntrack_half_open{worker=\"0\",core=\"4\"} 20",
        "vipgate_conntrack_evictions_total{worker=\"0\",core=\"4\",class=\"half_open\"} 0",
        "vipgate_conntrack_evictions_total{worker=\"0\",core=\"4\",class=\"answered\"} 0",
        "vipgate_conntrack_one_way_total{worker=\"0\",core=\"4\"} 0",
        "vipgate_service_connections_total{namespace=\"shop\",service=\"web\"} 7",
        "vipgate_service_refused_packets_total{namespace=\"shop\",service=\"empty\",reason=\"no_endpoints\"} 3",
        "vipgate_service_refused_packets_total{namespace=\"shop\",service=\"web\",reason=\"source_not_allowed\"} 1",
        "vipgate_table_generation 2",
        "vipgate_table_publishes_total 1",
        "vipgate_table_retired 0",
        "vipgate_table_acknowledge_seconds_count 1",
        "vipgate_update_duration_seconds_count 1",
        "vipgate_endpoint_programming_duration_seconds_bucket{le=\"0.25\"} 0",
        "vipgate_endpoint_programming_duration_seconds_bucket{le=\"300.0\"} 0",
        "vipgate_source_connected 1",
        "vipgate_kube_stale_seconds 0",
        "vipgate_source_problems 0",
        "vipgate_events_sent_total 0",
        "vipgate_events_dropped_total{cause=\"refused\"} 0",
        "vipgate_events_dropped_total{cause=\"too_many\"} 0",
        "vipgate_services 2",
        "vipgate_service_rows 2",
        "vipgate_endpoints 2",
        "vipgate_mempool_free{pool=\"packets\"} 60000",
        "vipgate_mempool_size{pool=\"packets\"} 65535",
    ] {
        assert!(body.lines().any(|found| found == line), "missing: {line}\n{body}");
    }
    let drops = body.lines().filter(|line| line.starts_with("vipgate_drop_packets_total{"));
    assert_eq!(drops.count(), DropReason::COUNT);
    let services = body.lines().filter(|line| line.contains(",service=\""));
    assert_eq!(services.count(), 3, "no series of what is zero");
    // The page for operators has a row for every family, with its own words and type.
    let page = include_str!("../../docs/metrics.md");
    let described = |line: &str| line.strip_prefix("# HELP ").map(str::to_owned);
    for family in body.lines().filter_map(described) {
        let (name, help) = family.split_once(' ').expect("a name and a help text");
        let kind = |line: &str| line.strip_prefix(&format!("# TYPE {name} ")).map(str::to_owned);
        let kind = body.lines().find_map(kind).expect("every family has a type");
        let row = format!("| `{name}` | {kind} | {} |", help.trim_end_matches('.'));
        assert!(page.lines().any(|line| line == row), "docs/metrics.md lacks: {row}");
    }

    let types = || body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut names: Vec<&str> =
        types().map(|line| line.split(' ').next().expect("a name")).collect();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "every family once");
}

/// Whoever comes from kube-proxy finds its figures here: the page says which is which.
#[test]
fn syn_7_figures_of_kube_proxy_have_their_like() {
    let (process, dir) = (Process::running(), Dir::new());
    let running = Running::start(&process, &dir.socket());
    let (_, body) = running.get("/metrics", "*/*");
    let page = include_str!("../../docs/metrics.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `kubeproxy_")).collect();
    assert!(rows.len() >= 8, "{rows:?}");
    for row in rows {
        let names = row.split('`').filter(|name| name.starts_with("vipgate_"));
        let mut found = 0;
        for name in names {
            assert!(body.contains(&format!("\n# HELP {name} ")), "{name} of {row}");
            found += 1;
        }
        assert!(found > 0, "{row}");
    }
}

#[test]
fn syn_8_eps_12_a_change_is_timed_from_the_instant_the_object_names() {
    let mut process = Process::running();
    let dir = Dir::new();
    let running = Running::start(&process, &dir.socket());
    let slice = "{metadata: {name: late, namespace: shop, labels: {kubernetes.io/service-name: web}}, addressType: IPv4,
         ports: [{name: https, port: 8443}], endpoints: [{addresses: [10.0.1.9]}]}";
    let slice = serde_saphyr::from_str(slice).expect("readable");
    let slice = Slice::parse(&slice).expect("named").object;
    let trigger = Some(Timestamp::now());
    let change = Change { trigger, ..Change::of(Object::Slice(slice)) };
    let generation = process.control.status().generation;
    process.send(Event::Apply(change));
    let published = process.control.wait_for(|status| status.generation > generation);
    runtime().block_on(published).expect("the control loop runs");
    process.refresh();
    until("the last worker has it", || {
        let (_, body) = running.get("/metrics", "*/*");
        let count = "vipgate_endpoint_programming_duration_seconds_count 1";
        body.lines().any(|line| line == count)
    });
    // Upstream promises half a minute.
    let (_, body) = running.get("/metrics", "*/*");
    let soon = "vipgate_endpoint_programming_duration_seconds_bucket{le=\"30.0\"} 1";
    assert!(body.lines().any(|line| line == soon), "{body}");
}

#[test]
fn rej_11_ports_without_local_endpoint_are_counted() {
    let process = Process::new();
    let settings: Settings = serde_saphyr::from_str("{nodeName: here}").expect("valid");
    runtime().block_on(process.control.send(Update::Settings(settings))).expect("it runs");
    let dir = Dir::new();
    let running = Running::start(&process, &dir.socket());
    let here = "{addresses: [10.0.1.2], nodeName: here}";
    let there = "{addresses: [10.0.1.3], nodeName: there}";
    let leaving = "{addresses: [10.0.1.4], nodeName: here, conditions: {ready: false, serving: true, terminating: true}}";
    let starting =
        "{addresses: [10.0.1.5], nodeName: here, conditions: {ready: false, serving: false}}";
    let (internal, external) = ("internalTrafficPolicy: Local", "externalTrafficPolicy: Local");
    let both = format!("{internal}, {external}");
    let reachable = "externalIPs: [203.0.113.1]";
    for (policy, way_in, endpoints, expected) in [
        (internal, reachable, vec![there], (1, 0)),
        (external, reachable, vec![there], (0, 1)),
        (&both, reachable, vec![there], (1, 1)),
        (&both, reachable, vec![there, starting], (1, 1)),
        // Served, if only by an endpoint that drains.
        (&both, reachable, vec![there, here], (0, 0)),
        (&both, reachable, vec![there, leaving], (0, 0)),
        // No endpoint at all is refused, not dropped.
        (&both, reachable, vec![], (0, 0)),
        (&both, reachable, vec![starting], (0, 0)),
        // Nobody comes from outside.
        (&both, "externalIPs: []", vec![there], (1, 0)),
        ("externalTrafficPolicy: Cluster", reachable, vec![there], (0, 0)),
    ] {
        // Two ports count twice, one without slice port not.
        let ports = "[{name: a, port: 80}, {name: b, port: 81}, {name: c, port: 82}]";
        let endpoints = endpoints.join(", ");
        process.load(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, spec: {{clusterIP: 172.30.0.1, {way_in}, {policy}, ports: {ports}}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}}, addressType: IPv4, ports: [{{name: a, port: 1}}, {{name: b, port: 2}}], endpoints: [{endpoints}]}}"
        ));
        let (internal, external) = (2 * expected.0, 2 * expected.1);
        until(&format!("{policy}, {way_in}, {endpoints}"), || {
            let (_, body) = running.get("/metrics", "*/*");
            let has = |policy: &str, count: usize| {
                let line = format!(
                    "vipgate_service_rows_without_local_endpoints{{traffic_policy=\"{policy}\"}} {count}"
                );
                body.lines().any(|found| found == line)
            };
            has("internal", internal) && has("external", external)
        });
    }
}

#[test]
fn the_screen_is_readable() {
    let expected = "\
vipgate 1.2.3   up 3h4m   NOT READY
  ports: no link on cluster
source       stale for 1m15s: connection refused
node         edge-1, 192.0.2.1, zone z1; leaving: the Node object is being deleted
tables       2 services, 12.0k endpoints; generation 42, all workers at 41, 1 retired
connections  1.00k of 2.50M (40 half open), 9.00M made, 8.00M expired, 7 evicted
buffers      packets: 60.0k of 65.5k free
problems     1
  Service shop/old: spec.ports[0].port: 0 is not a port number: use 1 to 65535

PORT     DRIVER  MAC                MTU   LINK     RX  BYTES     TX  BYTES  MISSED  NOBUF  ERRORS
uplink   virtio  02:00:00:00:00:01  1500  25G   2.50k   160k      0      0       7      0       0
cluster  virtio  02:00:00:00:00:02  1500  DOWN      0      0  2.40k   154k       7      0       0

WORKER  CORE   BUSY  BURST  POLLS  CONNS   ROOM  HALF-OPEN  HANDED  PUNTED
0       4     25.0%   12.5  1.00k    500  1.25M         20      17       3
1       5     STUCK   12.5  1.00k    500  1.25M         20      17       3

DROPPED   PACKETS
martian        40
no_route       10

SERVICE         BACKENDS  OPENED  REFUSED  ONE-WAY  FRONTENDS
shop/empty:53          0       0    1.00k        0
shop/web:https         3    123k        0        2  tcp 172.30.0.10:443, tcp 203.0.113.10:443
";
    assert_eq!(admin::render(&screen()), expected);
}

#[test]
fn the_screen_never_exceeds_100_columns() {
    let mut status = screen();
    for id in 0..40 {
        let frontends =
            (0..5).map(|n| format!("tcp [2001:db8:ffff:ffff:ffff:ffff:ffff:{n:x}]:65535"));
        let name = format!("{}/{id}", "long".repeat(40));
        status.services.push(ServiceStatus {
            name,
            frontends: frontends.collect(),
            ..service("", &[], 100_000)
        });
    }
    let screen = admin::render(&status);
    assert!(screen.lines().all(|line| line.chars().count() <= 100), "{screen}");
    assert!(screen.ends_with("... and 22 more: `-o json` shows all\n"), "{screen}");
}

/// A Service of which nothing is counted yet.
fn service(name: &str, frontends: &[&str], backends: usize) -> ServiceStatus {
    ServiceStatus {
        name: name.to_owned(),
        frontends: frontends.iter().map(ToString::to_string).collect(),
        backends,
        connections: 0,
        refused: 0,
        one_way: 0,
    }
}

fn screen() -> Status {
    let port = |name: &str, last, rx, tx| PortStatus {
        name: name.to_owned(),
        driver: "net_virtio".to_owned(),
        link_up: rx > 0,
        link_mbps: Some(25_000),
        mac: format!("02:00:00:00:00:{last:02x}"),
        mtu: 1500,
        rx_packets: rx,
        rx_bytes: rx * 64,
        tx_packets: tx,
        tx_bytes: tx * 64,
        missed: 7,
        no_buffer: 0,
        rx_errors: 0,
        tx_errors: 0,
    };
    let worker = |core, polling| WorkerStatus {
        core,
        polling,
        busy_percent: 25.0,
        packets_per_burst: 12.5,
        polls: 1000,
        connections: 500,
        capacity: 1_250_000,
        half_open: 20,
        handed_over: 17,
        punted: 3,
    };
    let drop = |reason: &str, packets| DropCount { reason: reason.to_owned(), packets };
    let mut services = vec![
        service("shop/web:https", &["tcp 172.30.0.10:443", "tcp 203.0.113.10:443"], 3),
        service("shop/empty:53", &[], 0),
    ];
    (services[0].connections, services[0].one_way, services[1].refused) = (123_456, 2, 1000);
    Status {
        version: "1.2.3".to_owned(),
        uptime_seconds: 3 * 3600 + 4 * 60 + 5,
        not_ready: vec!["ports: no link on cluster".to_owned()],
        ports: vec![port("uplink", 1, 2500, 0), port("cluster", 2, 0, 2400)],
        workers: vec![worker(4, Some(true)), worker(5, Some(false))],
        services,
        connections: Connections {
            entries: 1000,
            capacity: 2_500_000,
            half_open: 40,
            created: 9_000_000,
            expired: 8_000_000,
            evicted: 7,
        },
        drops: vec![drop("martian", 40), drop("no_route", 10)],
        source: SourceStatus {
            state: "stale".to_owned(),
            stale_seconds: 75,
            error: Some("connection refused".to_owned()),
            problem_count: 1,
            problems: vec![
                "Service shop/old: spec.ports[0].port: 0 is not a port number: use 1 to 65535"
                    .to_owned(),
            ],
        },
        node: Some(NodeFacts {
            name: "edge-1".to_owned(),
            found: true,
            zone: Some("z1".to_owned()),
            addresses: vec!["192.0.2.1".parse().expect("valid")],
            leaving: Some(Leaving::Deleted),
        }),
        service_cidrs: vec!["10.96.0.0/16".parse().expect("valid")],
        tables: TableStatus {
            generation: 42,
            acknowledged: 41,
            retired: 1,
            services: 2,
            rows: 2,
            endpoints: 12_000,
            ..TableStatus::default()
        },
        pools: vec![PoolStatus { name: "packets".to_owned(), size: 65_535, free: 60_000 }],
    }
}
