//! The DNS server as clients see it: real `dig` against a real server on loopback, with a server for other names that
//! the test makes.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::assembly::Assembly;
use control::config::Config;
use control::control::{Control, Handle, Update};
use control::dns::{Counters, Dns};
use control::object::{Kind, Object, Service, Slice};
use control::publish::TablesPublisher;
use control::source::{Change, Event};
use dataplane::fib::{Fib, FibSpec};
use dataplane::hash::HashKey;
use dataplane::service::ServiceTable;
use dataplane::snapshot;
use dataplane::tables::Tables;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

const WEB: &str = "{metadata: {namespace: demo, name: web}, spec: {clusterIPs: [10.96.0.1, 'fd00:96::1'], ipFamilies: [IPv4, IPv6],
    ports: [{name: http, port: 80}]}}";
const PLAIN: &str =
    "{metadata: {namespace: demo, name: plain}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}";
const DB: &str = "{metadata: {namespace: demo, name: db}, spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}}";
const BIG: &str = "{metadata: {namespace: demo, name: big}, spec: {clusterIP: None}}";
const SHOP: &str = "{metadata: {namespace: demo, name: shop}, spec: {type: ExternalName, externalName: shop.example.com}}";
const LOST: &str = "{metadata: {namespace: demo, name: lost}, spec: {type: ExternalName, externalName: none.example.com}}";
const ALIAS: &str = "{metadata: {namespace: demo, name: alias}, spec: {type: ExternalName, externalName: web.demo.svc.cluster.local}}";
const CIRCLE: &str = "{metadata: {namespace: demo, name: circle}, spec: {type: ExternalName, externalName: circle.demo.svc.cluster.local}}";
const DB_SLICE: &str = "{metadata: {namespace: demo, name: db-x, labels: {kubernetes.io/service-name: db}}, addressType: IPv4,
    ports: [{name: sql, port: 15432}], endpoints: [{addresses: [10.0.0.1], hostname: db-0}, {addresses: [10.0.0.2]}]}";

/// A server with its control loop; everything ends with the value.
struct Site {
    address: SocketAddr,
    control: Handle,
    counters: Arc<Counters>,
    stop: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
}

impl Site {
    /// Without objects.
    fn empty(upstream: Option<SocketAddr>) -> Self {
        let upstreams = upstream.map(|address| format!("\"{address}\"")).unwrap_or_default();
        let text = format!("dns: {{addresses: [\"127.0.0.1:0\"], upstreams: [{upstreams}]}}");
        let config = Config::parse(&text, "test").unwrap_or_else(|errors| panic!("{errors}"));
        let key = HashKey::new(1);
        let first = Tables {
            services: ServiceTable::new(key),
            fib: Arc::new(Fib::new(&FibSpec::default())),
            node: Arc::default(),
        };
        let (publisher, _) = snapshot::channel(first.clone(), 0);
        let services: control::settings::Settings =
            serde_saphyr::from_str("{serviceCIDRs: [10.96.0.0/12]}").expect("valid");
        let assembly = Assembly::new(services, key);
        let (control_loop, control) =
            Control::new(assembly, TablesPublisher::new(publisher, first));
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = oneshot::channel();
        let (sender, bound) = std::sync::mpsc::channel();
        let (handle, counted) = (control.clone(), counters.clone());
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                let dns = Dns::bind(&config.dns.expect("given")).await.expect("loopback is free");
                sender.send(dns.addresses().expect("bound")[0]).expect("the test waits");
                tokio::select! {
                    () = control_loop.run() => (),
                    () = dns.run(handle, counted) => (),
                    _ = stopped => (),
                }
            });
        });
        let address = bound.recv().expect("the server starts");
        Self { address, control, counters, stop: Some((stop, thread)) }
    }

    /// With everything above.
    fn new(upstream: Option<SocketAddr>) -> Self {
        let site = Self::empty(upstream);
        let services = [WEB, PLAIN, DB, BIG, SHOP, LOST, ALIAS, CIRCLE].map(service);
        site.reset(Kind::Service, services.into());
        site.reset(Kind::EndpointSlice, vec![slice(DB_SLICE), big()]);
        site
    }

    fn reset(&self, kind: Kind, objects: Vec<Change>) {
        self.send(Event::Reset { kind, objects, unreadable: Vec::new() });
    }

    fn send(&self, event: Event) {
        let sent = self.control.send(Update::Object(event));
        runtime().block_on(sent).expect("the control loop runs");
    }

    /// What `dig` prints, with these arguments.
    fn dig(&self, arguments: &str) -> String {
        let output = Command::new("dig")
            .arg(format!("@{}", self.address.ip()))
            .args(["-p", &self.address.port().to_string(), "+tries=1", "+time=5", "+nocookie"])
            .args(arguments.split_whitespace())
            .output()
            .expect("dig runs (Debian: bind9-dnsutils)");
        String::from_utf8(output.stdout).expect("text")
    }

    /// The answer section, a line a record, without names.
    fn short(&self, arguments: &str) -> Vec<String> {
        let mut lines: Vec<String> =
            self.dig(&format!("+short {arguments}")).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The status, and how many records are in the answer, authority and additional sections.
    fn outcome(&self, arguments: &str) -> (String, String) {
        let text = self.dig(arguments);
        let word = |key: &str| {
            let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no {key}: {text}"));
            rest.split([',', '\n', ';']).next().expect("a word").trim().to_owned()
        };
        let sections = [word("ANSWER: "), word("AUTHORITY: "), word("ADDITIONAL: ")];
        (word("status: "), sections.join("/"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn service(yaml: &str) -> Change {
    let service = serde_saphyr::from_str(yaml).expect("readable");
    Change::of(Object::Service(Service::parse(&service).expect("named").object))
}

fn slice(yaml: &str) -> Change {
    let slice = serde_saphyr::from_str(yaml).expect("readable");
    Change::of(Object::Slice(Slice::parse(&slice).expect("named").object))
}

/// More endpoints than an answer over UDP can name.
fn big() -> Change {
    let endpoints: Vec<String> =
        (0..900).map(|i| format!("{{addresses: [10.1.{}.{}]}}", i / 200, i % 200 + 1)).collect();
    slice(&format!(
        "{{metadata: {{namespace: demo, name: big-x, labels: {{kubernetes.io/service-name: big}}}}, addressType: IPv4, endpoints: [{}]}}",
        endpoints.join(", ")
    ))
}

/// A server that knows example.com, for as long as the test runs. Counts what it is asked.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is free");
    let address = socket.local_addr().expect("bound");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::SeqCst);
            let request = Message::from_vec(&buffer[..len]).expect("a question");
            let answer = example(&request).to_vec().expect("small");
            let _ = socket.send_to(&answer, client);
        }
    });
    (address, asked)
}

fn example(request: &Message) -> Message {
    let name = |text| Name::from_ascii(text).expect("a name");
    let query = request.queries[0].clone();
    let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
    answer.metadata.recursion_available = true;
    let mut add = |owner: Name, data| {
        answer.answers.push(Record::from_rdata(owner, 300, data));
    };
    let address = RData::from(std::net::IpAddr::from([192, 0, 2, 80]));
    match (query.name().to_ascii().to_ascii_lowercase().as_str(), query.query_type()) {
        ("shop.example.com.", RecordType::A) => add(name("shop.example.com."), address),
        ("www.example.com.", RecordType::A) => {
            add(name("www.example.com."), RData::CNAME(CNAME(name("shop.example.com."))));
            add(name("shop.example.com."), address);
        }
        (known, _) => {
            if !["shop.example.com.", "www.example.com."].contains(&known) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let soa = SOA::new(name("ns.example.com."), name("x.example.com."), 1, 2, 3, 4, 60);
            let soa = Record::from_rdata(name("example.com."), 60, RData::SOA(soa));
            answer.authorities.push(soa);
        }
    }
    answer.queries.push(query);
    answer
}

#[test]
fn dns_2_3_4_a_service_answers_dig_over_udp_and_tcp() {
    let site = Site::new(None);
    for transport in ["+notcp", "+tcp"] {
        let short = |question: &str| site.short(&format!("{transport} {question}"));
        assert_eq!(short("web.demo.svc.cluster.local A"), ["10.96.0.1"]);
        assert_eq!(short("web.demo.svc.cluster.local AAAA"), ["fd00:96::1"]);
        assert_eq!(
            short("_http._tcp.web.demo.svc.cluster.local SRV"),
            ["0 100 80 web.demo.svc.cluster.local."]
        );
        assert_eq!(short("-x 10.96.0.1"), ["web.demo.svc.cluster.local."]);
        assert_eq!(short("-x fd00:96::1"), ["web.demo.svc.cluster.local."]);
        assert_eq!(short("dns-version.cluster.local TXT"), ["\"1.1.0\""]);
    }
    let text = site.dig("_http._tcp.web.demo.svc.cluster.local SRV");
    for line in [
        "web.demo.svc.cluster.local. 5 IN A 10.96.0.1",
        "web.demo.svc.cluster.local. 5 IN AAAA fd00:96::1",
    ] {
        let blanks = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.lines().any(|found| blanks(found) == line), "{line} is sent along: {text}");
    }
    assert!(
        text.contains("flags: qr aa rd;"),
        "authoritative, and no recursion without upstreams: {text}"
    );
}

#[test]
fn no_name_and_no_record_are_told_apart() {
    let site = Site::new(None);
    for (question, status, sections) in [
        ("gone.demo.svc.cluster.local A", "NXDOMAIN", "0/1/1"),
        ("plain.demo.svc.cluster.local AAAA", "NOERROR", "0/1/1"),
        ("plain.demo.svc.cluster.local SRV", "NOERROR", "0/1/1"),
        ("demo.svc.cluster.local A", "NOERROR", "0/1/1"),
        ("_tcp.web.demo.svc.cluster.local SRV", "NOERROR", "0/1/1"),
        ("cluster.local SOA", "NOERROR", "1/0/1"),
        ("cluster.local NS", "NOERROR", "1/0/1"),
        ("cluster.local A", "NOERROR", "0/1/1"),
        ("-x 10.96.9.9", "NXDOMAIN", "0/1/1"),
        ("web.demo.svc.cluster.local ANY +notcp", "NOERROR", "1/0/1"),
        ("circle.demo.svc.cluster.local A", "SERVFAIL", "0/0/1"),
        ("example.com A", "REFUSED", "0/0/1"),
        ("web.demo.svc.cluster.local A -c CH", "REFUSED", "0/0/1"),
        ("web.demo.svc.cluster.local A +opcode=NOTIFY", "NOTIMP", "0/0/1"),
        ("web.demo.svc.cluster.local A +edns=1 +noednsneg", "BADVERS", "0/0/1"),
        ("web.demo.svc.cluster.local A +noedns", "NOERROR", "1/0/0"),
    ] {
        let expected = (status.to_owned(), sections.to_owned());
        assert_eq!(site.outcome(question), expected, "{question}\n{}", site.dig(question));
    }
    let soa = site.short("cluster.local SOA");
    assert_eq!(soa, ["ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"]);
    let counted: u64 = site.counters.queries().map(|(_, count)| count).sum();
    assert!(counted > 16, "{:?}", site.counters);
}

#[test]
fn dns_10_an_answer_is_in_the_case_that_was_asked() {
    let site = Site::new(None);
    let text = site.dig("WeB.demo.SVC.cluster.LOCAL A");
    let line = text.lines().find(|line| line.starts_with("WeB.demo.SVC.cluster.LOCAL."));
    assert!(line.is_some_and(|line| line.ends_with("10.96.0.1")), "{text}");
}

#[test]
fn dns_5_a_large_answer_is_cut_over_udp_and_whole_over_tcp() {
    let site = Site::new(None);
    for (size, fit) in [("+noedns", 20..32), ("+bufsize=4096", 60..80)] {
        let text = site.dig(&format!("+ignore {size} big.demo.svc.cluster.local A"));
        assert!(text.contains("flags: qr aa tc"), "{size}: {text}");
        let told = text.lines().filter(|line| line.contains("\tA\t")).count();
        assert!(fit.contains(&told), "{size}: {told} records fit");
    }
    // dig asks again over TCP by itself.
    assert_eq!(site.short("big.demo.svc.cluster.local A").len(), 900);
    assert_eq!(site.short("+tcp big.demo.svc.cluster.local A").len(), 900);
}

#[test]
fn dns_5_6_endpoints_take_turns() {
    let site = Site::new(None);
    assert_eq!(site.short("db.demo.svc.cluster.local"), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(site.short("db-0.db.demo.svc.cluster.local"), ["10.0.0.1"]);
    assert_eq!(site.short("-x 10.0.0.2"), ["10-0-0-2.db.demo.svc.cluster.local."]);
    assert_eq!(
        site.short("_sql._tcp.db.demo.svc.cluster.local SRV"),
        [
            "0 100 15432 10-0-0-2.db.demo.svc.cluster.local.",
            "0 100 15432 db-0.db.demo.svc.cluster.local."
        ]
    );
    let first = || site.dig("+short db.demo.svc.cluster.local").lines().next().map(str::to_owned);
    let (one, other) = (first(), first());
    assert!(one.is_some() && one != other, "{one:?} {other:?}");
}

#[test]
fn a_change_is_answered_at_once() {
    let site = Site::empty(None);
    let question = "web.demo.svc.cluster.local A";
    assert_eq!(site.outcome(question).0, "SERVFAIL", "nothing is known before the first list");
    site.reset(Kind::Service, vec![service(WEB)]);
    assert_eq!(site.outcome(question).0, "SERVFAIL", "nor before that of the slices");
    site.reset(Kind::EndpointSlice, vec![]);
    assert_eq!(site.short(question), ["10.96.0.1"]);
    for i in 2..12 {
        let address = format!("10.96.0.{i}");
        let change = service(&WEB.replace("10.96.0.1", &address));
        site.send(Event::Apply(change));
        assert_eq!(site.short(question), [address]);
    }
}

#[test]
fn dns_8_aliases_and_other_names_are_asked_of_the_upstream_and_remembered() {
    let (address, asked) = upstream();
    let site = Site::new(Some(address));
    assert_eq!(site.short("shop.demo.svc.cluster.local A"), ["192.0.2.80", "shop.example.com."]);
    assert_eq!(site.short("shop.demo.svc.cluster.local CNAME"), ["shop.example.com."]);
    assert_eq!(
        site.short("alias.demo.svc.cluster.local A"),
        ["10.96.0.1", "web.demo.svc.cluster.local."]
    );
    let first = asked.load(Ordering::SeqCst);
    assert!(first > 0);
    assert_eq!(site.short("shop.example.com A"), ["192.0.2.80"]);
    assert_eq!(asked.load(Ordering::SeqCst), first, "it was remembered");
    assert_eq!(site.short("WWW.example.com A"), ["192.0.2.80", "shop.example.com."]);
    for (question, status, sections) in [
        ("none.example.com A", "NXDOMAIN", "0/1/1"),
        ("www.example.com AAAA", "NOERROR", "0/1/1"),
        ("lost.demo.svc.cluster.local A", "NXDOMAIN", "1/1/1"),
        // Not asked of others: the cluster's own.
        ("gone.demo.svc.cluster.local A", "NXDOMAIN", "0/1/1"),
        ("-x 192.0.2.80", "NXDOMAIN", "0/1/1"),
    ] {
        let expected = (status.to_owned(), sections.to_owned());
        assert_eq!(site.outcome(question), expected, "{question}\n{}", site.dig(question));
    }
    let text = site.dig("shop.demo.svc.cluster.local A");
    assert!(text.contains("flags: qr aa rd ra;"), "{text}");
    assert!(site.counters.forwarded() > 5);
}

#[test]
fn dns_8_without_upstreams_an_alias_stands_alone() {
    let site = Site::new(None);
    assert_eq!(site.short("shop.demo.svc.cluster.local A"), ["shop.example.com."]);
}

/// A dead server for other names costs those, not the cluster's.
#[test]
fn the_clusters_names_are_answered_while_an_upstream_is_silent() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback is free");
    let site = Site::new(Some(silent.local_addr().expect("bound")));
    let flood = UdpSocket::bind("127.0.0.1:0").expect("loopback is free");
    flood.set_read_timeout(Some(Duration::from_secs(10))).expect("not zero");
    let ask = |id: u16| {
        let mut question = Message::query();
        question.metadata.id = id;
        let name = Name::from_ascii(format!("n{id}.example.com.")).expect("a name");
        let query = hickory_resolver::proto::op::Query::query(name, RecordType::A);
        question.queries.push(query);
        flood.send_to(&question.to_vec().expect("small"), site.address).expect("loopback");
    };
    // As many as may wait for the silent server, each seen to wait, so that none is lost in the socket.
    for id in 0..128 {
        ask(id);
        let deadline = Instant::now() + Duration::from_secs(10);
        while site.counters.forwarded() <= u64::from(id) {
            assert!(Instant::now() < deadline, "{:?}", site.counters);
            thread::sleep(Duration::from_micros(100));
        }
    }
    // The others are refused, at once as long as all places are taken.
    let mut answer = [0; 512];
    for id in 128..1000 {
        ask(id);
        let len = flood.recv(&mut answer).expect("an answer");
        let answer = Message::from_vec(&answer[..len]).expect("an answer");
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{id}");
    }
    assert_eq!(site.short("web.demo.svc.cluster.local A"), ["10.96.0.1"]);
    assert_eq!(site.outcome("example.com A").0, "SERVFAIL");
    assert_eq!(site.counters.dropped(), 0);
}

#[test]
fn what_is_no_question_does_no_harm() {
    let site = Site::new(None);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is free");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("not zero");
    let mut answer = [0; 512];
    for silent in [&b""[..], b"x", &[0; 11], &[0xff; 12], &[0xff; 600]] {
        socket.send_to(silent, site.address).expect("loopback");
        assert!(socket.recv_from(&mut answer).is_err(), "{silent:?}");
    }
    // A header that promises a question, and nothing behind it.
    let cut = [7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    socket.send_to(&cut, site.address).expect("loopback");
    let (len, _) = socket.recv_from(&mut answer).expect("an answer");
    let answer = Message::from_vec(&answer[..len]).expect("readable");
    assert_eq!(
        (answer.metadata.id, answer.metadata.response_code),
        (0x0709, ResponseCode::FormErr)
    );
    assert_eq!(site.short("web.demo.svc.cluster.local A"), ["10.96.0.1"]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is free");
    let address = listener.local_addr().expect("bound");
    let config = Config::parse(&format!("dns: {{addresses: [\"{address}\"]}}"), "test");
    let config = config.expect("valid").dns.expect("given");
    let error = runtime().block_on(Dns::bind(&config)).expect_err("it is taken").to_string();
    assert!(
        error.starts_with(&format!("cannot listen on DNS address {address} (TCP): ")),
        "{error}"
    );
    assert!(error.contains("`dns.addresses`"), "{error}");
}
