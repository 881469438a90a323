//! The process as the DaemonSet starts it: root with the container's capabilities and no others, a read-only /proc/sys,
//! and an API server that allows what the ClusterRole allows.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::netns::{self, Namespace, Process};
use crate::{manifests, skipped, text};

const NODE: &str = "edge-1";
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the process looks twice.
const WHILE: Duration = Duration::from_secs(3);

#[test]
fn the_daemonsets_rights_are_enough_and_its_roles_are_all_used() {
    if skipped(netns::unavailable()) {
        return;
    }
    let namespace = Namespace::new(0, "deploy");
    for number in [1, 2] {
        namespace.ip(&format!("link add eth{number} type veth peer name peer{number}"));
        namespace.ip(&format!("link set eth{number} up"));
        namespace.ip(&format!("link set peer{number} up"));
    }
    let folder = Folder::new();
    let api = Api::start(&namespace);
    let manager = UnixDatagram::bind(folder.0.join("notify")).expect("a socket");
    manager.set_read_timeout(Some(LIMIT)).expect("a time");
    let mut process: Process = start(&namespace, &folder.0, api.port);

    // Half of what is listed is no table to serve from.
    let status = hear(&manager, &folder, "STATUS=");
    assert!(status.contains("no complete list of Services"), "{status}");
    manager.set_read_timeout(Some(WHILE)).expect("a time");
    while let Ok(told) = receive(&manager) {
        assert!(!told.contains("READY=1"), "ready without Services: {told}");
    }
    manager.set_read_timeout(Some(LIMIT)).expect("a time");
    api.answers_slices.store(true, Ordering::Relaxed);
    hear(&manager, &folder, "READY=1");

    let granted = manifests::granted();
    let begin = Instant::now();
    while *api.asked.lock().expect("no panic") != granted && begin.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(*api.asked.lock().expect("no panic"), granted, "asked for, and granted");
    let status = Command::new(env!("CARGO_BIN_EXE_vipgate"))
        .args(["status", "--socket"])
        .arg(folder.0.join("vipgate.sock"))
        .output()
        .expect("it starts");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains(&format!("node         {NODE}, 192.0.2.9, zone z1\n")), "{status}");
    assert!(status.contains("169.254.169.254 can't be an endpoint"), "{status}");

    let pid = i32::try_from(process.child().id()).expect("process ids are small");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    hear(&manager, &folder, "STOPPING=1");
    let ended = process.child().wait().expect("it is our child");
    assert_eq!(ended.code(), Some(0), "{}", folder.log());
}

/// As the container runtime would; the port's devices have the names of the overlay's configuration.
fn start(namespace: &Namespace, folder: &Path, api: u16) -> Process {
    let kubeconfig = folder.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": format!("http://127.0.0.1:{api}")}}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    });
    fs::write(&kubeconfig, config.to_string()).expect("a file");
    let config = text("deploy/kubernetes-af-packet/vipgate.yaml");
    let source = format!("kubernetes: {{kubeconfig: {}}}", kubeconfig.display());
    let socket = folder.join("vipgate.sock");
    let config = format!(
        "{}\nadmin: {{socket: {}}}\nconntrack: {{connections: 10000}}\n",
        config.replace("kubernetes: {}", &source),
        socket.display()
    );
    let path = folder.join("vipgate.yaml");
    fs::write(&path, config).expect("a file");

    let context = manifests::container().security_context.expect("a security context");
    assert_eq!(context.run_as_user, Some(0));
    let added = context.capabilities.and_then(|set| set.add).expect("capabilities");
    let capabilities: Vec<String> =
        added.iter().map(|name| format!("+{}", name.to_lowercase())).collect();
    let capabilities = format!("-all,{}", capabilities.join(","));
    // `ip netns exec` has made a mount namespace.
    let line =
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"";
    let mut command = namespace.command("sh");
    command.args(["-c", line, "sh", "setpriv", "--no-new-privs", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set={capabilities}"));
    command.args([env!("CARGO_BIN_EXE_vipgate"), "run", "--config"]).arg(path);
    command.env("RUNTIME_DIRECTORY", folder).env("NOTIFY_SOCKET", folder.join("notify"));
    let names = manifests::container().env.unwrap_or_default().into_iter().map(|env| env.name);
    assert!(names.into_iter().any(|name| name == "NODE_NAME"), "the configuration needs it");
    command.env("NODE_NAME", NODE);
    let log = fs::File::create(folder.join("log")).expect("a file");
    command.stdout(Stdio::null()).stderr(log);
    command.spawn().expect("`ip` runs").into()
}

/// Waits until the process tells its manager something that contains a text.
fn hear(manager: &UnixDatagram, folder: &Folder, what: &str) -> String {
    loop {
        let told = receive(manager).unwrap_or_else(|e| panic!("no {what}: {e}\n{}", folder.log()));
        if told.contains(what) {
            return told;
        }
    }
}

fn receive(manager: &UnixDatagram) -> std::io::Result<String> {
    let mut buffer = [0; 4096];
    let length = manager.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// An API server with the gateway's Node, and a slice that gives it something to say.
struct Api {
    port: u16,
    /// Until then lists of EndpointSlices wait.
    answers_slices: Arc<AtomicBool>,
    /// API group, resource and verb of all requests.
    asked: Arc<Mutex<BTreeSet<[String; 3]>>>,
}

impl Api {
    fn start(namespace: &Namespace) -> Self {
        let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (answers_slices, asked) = (Arc::<AtomicBool>::default(), Arc::<Mutex<_>>::default());
        let (answers, requests) = (answers_slices.clone(), asked.clone());
        // Threads end with the test.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (answers, requests) = (answers.clone(), requests.clone());
                thread::spawn(move || drop(answer(&stream, &answers, &requests)));
            }
        });
        Self { port, answers_slices, asked }
    }
}

/// Answers the requests of one connection.
fn answer(
    mut stream: &TcpStream,
    answers_slices: &AtomicBool,
    asked: &Mutex<BTreeSet<[String; 3]>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let head: Vec<String> = reader
            .by_ref()
            .lines()
            .take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()))
            .collect::<Result<_, _>>()?;
        let Some(first) = head.first() else { return Ok(()) };
        let length = head.iter().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let request = read(first);
        let [group, resource, verb] = &request;
        if resource == "selfsubjectaccessreviews" {
            // Everybody may ask.
            let review: Value = serde_json::from_slice(&body).expect("JSON");
            send(stream, "201 Created", &reviewed(review))?;
            continue;
        }
        asked.lock().expect("no panic").insert(request.clone());
        while resource == "endpointslices" && !answers_slices.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        if !manifests::granted().contains(&request) {
            let why = format!("may not {verb} {resource} in {group}");
            send(stream, "403 Forbidden", &refusal(403, "Forbidden", &why))?;
            continue;
        }
        match verb.as_str() {
            "watch" => {
                let head = "Content-Type: application/json\r\nTransfer-Encoding: chunked";
                write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\n\r\n")?;
                thread::sleep(LIMIT);
            }
            // A process before this one said the same: it is to be counted on.
            "create" => {
                send(stream, "409 Conflict", &refusal(409, "AlreadyExists", "it exists"))?;
            }
            "patch" => send(stream, "200 OK", &json!({"metadata": {"name": "event"}}))?,
            _ => send(stream, "200 OK", &list(resource))?,
        }
    }
}

fn send(mut stream: &TcpStream, code: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
    write!(stream, "HTTP/1.1 {code}\r\n{head}\r\n\r\n{body}")
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code,
        "message": message, "metadata": {},
    })
}

fn reviewed(mut review: Value) -> Value {
    let what = &review["spec"]["resourceAttributes"];
    let text = |field: &str| what[field].as_str().unwrap_or_default().to_owned();
    let request = [text("group"), text("resource"), text("verb")];
    review["status"] = json!({"allowed": manifests::granted().contains(&request)});
    review
}

fn list(resource: &str) -> Value {
    let items = match resource {
        "nodes" => json!([{
            "metadata": {"name": NODE, "labels": {"topology.kubernetes.io/zone": "z1"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.9"}]},
        }]),
        "endpointslices" => json!([{
            "metadata": {"name": "a", "namespace": "demo", "labels": {"kubernetes.io/service-name": "a"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["169.254.169.254"]}],
        }]),
        _ => json!([]),
    };
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items})
}

/// API group, resource and verb of a request line.
fn read(line: &str) -> [String; 3] {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let (group, resource) = match parts[..] {
        ["api", _, resource] => ("", resource),
        ["apis", group, _, resource] => (group, resource),
        ["apis", group, _, "namespaces", _, resource] => (group, resource),
        ["apis", group, _, "namespaces", _, resource, _] => (group, resource),
        _ => ("?", path),
    };
    let watches = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
    let verb = match method {
        "GET" if watches => "watch",
        "GET" => "list",
        "POST" => "create",
        "PATCH" => "patch",
        other => other,
    };
    [group.to_owned(), resource.to_owned(), verb.to_owned()]
}

/// A folder that goes with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vipgate-deploy-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
