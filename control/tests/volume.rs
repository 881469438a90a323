//! A hundred thousand endpoints through the Kubernetes source, in bounded memory.
//!
//! The peak of a process's memory can be read but not attributed, so this binary does without the test harness: it is one
//! test in a process of its own, and the server is another process of the same binary (`volume --serve`).

mod support;

use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use control::control::Handle;
use control::source::kubernetes::{self, Scope};
use serde_json::{Value, json};
use support::fake_api::FakeApi;
use support::follow::follow;
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use tokio::time;

const SERVICES: usize = 1000;
/// Of each Service, in one slice, as the controller fills them.
const ENDPOINTS: usize = 100;
const NAME: &str = "eps_12_a_hundred_thousand_endpoints_in_bounded_memory";
/// What the process may grow by, MiB: while the first list comes, and while another one comes beside what is known.
const FIRST_LIST: u64 = 160;
const SECOND_LIST: u64 = 240;
/// What takes longer never comes.
const LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    if arguments.iter().any(|argument| argument == "--serve") {
        runtime.block_on(serve());
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    if filter.is_some_and(|filter| !NAME.contains(filter.as_str())) {
        println!("\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed\n");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    println!("\nrunning 1 test");
    runtime.block_on(eps_12_a_hundred_thousand_endpoints_in_bounded_memory());
    println!("test {NAME} ... ok\n\ntest result: ok. 1 passed; 0 failed\n");
    ExitCode::SUCCESS
}

async fn eps_12_a_hundred_thousand_endpoints_in_bounded_memory() {
    let mut server = Server::start();
    let before = memory("VmRSS");
    let tasks = LocalSet::new();
    let config = kube::Config::new(server.url.parse().expect("a URL"));
    let client = kubernetes::client(config).expect("a client");
    let handle = follow(&tasks, client, Scope::All);
    tasks
        .run_until(async {
            let started = Instant::now();
            until(&handle, SERVICES * ENDPOINTS).await;
            let first = memory("VmHWM") - before;
            println!("first list: {first} MiB in {:.1?}", started.elapsed());
            assert!(first <= FIRST_LIST, "the first list took {first} MiB of {FIRST_LIST}");
            // All of it again, and one more.
            let started = Instant::now();
            server.list_anew();
            until(&handle, (SERVICES + 1) * ENDPOINTS).await;
            let second = memory("VmHWM") - before;
            println!("second list: {second} MiB in {:.1?}", started.elapsed());
            assert!(second <= SECOND_LIST, "the second list took {second} MiB of {SECOND_LIST}");
        })
        .await;
}

async fn until(handle: &Handle, endpoints: usize) {
    let started = Instant::now();
    while handle.status().sizes.endpoints != endpoints {
        assert!(started.elapsed() < LIMIT, "not in time: {:?}", handle.status());
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// A figure of this process, MiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") / 1024
}

/// The other process. It ends when we do.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let own = std::env::current_exe().expect("a program");
        let mut command = Command::new(own);
        let command = command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut url = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut url).expect("it says its address");
        Self { child, url: url.trim().into() }
    }

    /// Forces a new list, which shows one Service more.
    fn list_anew(&mut self) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(b"anew\n").expect("it listens");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn serve() {
    let (api, url) = FakeApi::start().await;
    for n in 0..SERVICES {
        put(&api, n);
    }
    println!("{url}");
    let (send, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            send.send(line).expect("the server lives");
        }
    });
    // The end of the input is the end of the test.
    while lines.recv().await.is_some() {
        api.cut();
        put(&api, SERVICES);
        api.compact();
    }
}

/// A Service and its slice, of the size that a controller writes.
fn put(api: &FakeApi, n: usize) {
    let name = format!("service-{n}");
    api.put(json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"clusterIP": format!("10.96.{}.{}", n / 250, n % 250 + 1), "selector": {"app": name}, "type": "ClusterIP",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}}));
    let endpoint = |m: usize| {
        let pod = format!("{name}-5d4f8c7b9-{m:05}");
        let address = format!("10.{}.{}.{}", 100 + n / 250, n % 250, m + 1);
        json!({"addresses": [address], "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": "demo", "name": pod, "uid": "00000000-0000-4000-8000-000000000000"},
            "nodeName": format!("node-{}", m % 50), "zone": format!("zone-{}", m % 3)})
    };
    let endpoints: Vec<Value> = (0..ENDPOINTS).map(endpoint).collect();
    let labels = json!({"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    api.put(json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": format!("{name}-x"), "labels": labels}, "addressType": "IPv4",
        "endpoints": endpoints, "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]}));
}
