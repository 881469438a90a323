//! `vipgate demo` as people meet it: as an ordinary user, as root, kept, killed, forbidden.
//!
//! Each test runs a copy of the program in a folder of its own, so that its processes can be told from all others. It
//! needs user namespaces, `setpriv`, `nsenter` and `unshare` (util-linux), and iproute2.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);
const MEMORY_MIB: u64 = 512;
/// Whoever has no rights at all.
const NOBODY: u32 = 65534;

#[derive(Clone, Copy, PartialEq)]
enum User {
    Ordinary,
    Root,
}

#[test]
fn an_ordinary_user_sees_everything_work() {
    shows_everything(User::Ordinary);
}

#[test]
fn root_sees_everything_work() {
    if getuid().is_root() {
        shows_everything(User::Root);
    } else {
        eprintln!("skipped: this test is not run by root");
    }
}

fn shows_everything(user: User) {
    let demo = Demo::new();
    let running = demo.start(user, &["--json"]);
    let finished = demo.finish(running);
    let result = finished.json();
    assert!(finished.output.status.success(), "{result:#}");
    assert_eq!(result["problems"], Value::Array(Vec::new()));
    assert_eq!(result["ok"], true);
    assert!(finished.took < LIMIT, "{:?}", finished.took);
    assert!(finished.peak_mib < MEMORY_MIB, "{} MiB", finished.peak_mib);
    assert!(result["memoryMib"].as_u64().is_some_and(|mib| (1..MEMORY_MIB).contains(&mib)));

    let vips = result["vips"].as_array().expect("a list");
    for family in ["IPv4", "IPv6"] {
        for kind in ["ClusterIP", "NodePort", "externalIPs", "LoadBalancer"] {
            let mut same = vips.iter().filter(|vip| vip["kind"] == kind && vip["family"] == family);
            let vip = same.next().unwrap_or_else(|| panic!("no {kind} {family}"));
            assert_eq!((total(&vip["http"]), total(&vip["udp"])), (12, 6), "{vip:#}");
            assert!(vip["pingMicros"].is_u64(), "{vip:#}");
        }
    }
    let change = &result["change"];
    let drained = change["drained"].as_str().expect("a name");
    for phase in ["after", "removed"] {
        let answers = &change[phase]["answers"];
        assert!(answers[drained].is_null(), "{phase}: {answers}");
        assert!(answers["gold"].as_u64().is_some_and(|count| count > 0), "{phase}: {answers}");
    }
    assert_eq!(change["download"]["sumIsRight"], true);
    assert_eq!(change["download"]["backend"], drained);
    let turns = change["flow"]["backends"].as_array().expect("a list");
    assert_eq!(turns.first().expect("an answer")["backend"], drained);
    assert_ne!(turns.last().expect("an answer")["backend"], drained);
    let status = &result["status"];
    assert!(status["connections"]["created"].as_u64().is_some_and(|count| count > 100));
    demo.has_left_nothing();
}

#[test]
fn people_get_a_picture() {
    let demo = Demo::new();
    let running = demo.start(User::Ordinary, &[]);
    let finished = demo.finish(running);
    let text = String::from_utf8_lossy(&finished.output.stdout);
    assert!(finished.output.status.success(), "{text}");
    for part in ["LoadBalancer  192.0.2.80:80", "every byte right", "Everything as it should be."] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(!text.contains('\x1b'), "colours, but nobody looks");
    assert!(text.lines().all(|line| line.chars().count() <= 104), "{text}");
}

#[test]
fn a_kept_demo_can_be_played_with_and_ends_by_ctrl_c() {
    let demo = Demo::new();
    let mut running = demo.start(User::Ordinary, &["--json", "--keep"]);
    let result = read_document(&mut running);
    assert_eq!(result["ok"], true, "{result:#}");
    let commands = result["commands"].as_array().expect("a list");
    let commands: Vec<&str> = commands.iter().filter_map(Value::as_str).collect();
    let status = commands.iter().find(|command| command.contains(" status ")).expect("listed");
    let curl = commands.iter().find(|command| command.contains(" curl ")).expect("listed");
    let output = demo.shell(status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("ready"), "{output:?}");
    if Command::new("curl").arg("--version").output().is_ok() {
        let output = demo.shell(curl);
        assert!(String::from_utf8_lossy(&output.stdout).contains(" answers "), "{output:?}");
    }
    signal(&running, Signal::SIGINT);
    assert!(demo.finish(running).output.status.success());
    demo.has_left_nothing();
}

#[test]
fn a_killed_demo_leaves_nothing() {
    for (user, rude) in [(User::Ordinary, Signal::SIGKILL), (User::Ordinary, Signal::SIGINT)] {
        let demo = Demo::new();
        let running = demo.start(user, &[]);
        let begin = Instant::now();
        while demo.processes().len() < 4 && begin.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(10));
        }
        signal(&running, rude);
        assert!(!demo.finish(running).output.status.success());
        demo.has_left_nothing();
    }
}

#[test]
fn a_kernel_that_forbids_namespaces_is_explained() {
    let demo = Demo::new();
    // The user namespace we are in from here on allows no further one, and lacks the right to do without.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" demo";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(demo.program())
        .output()
        .expect("unshare is there");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["namespaces", "sysctl -w user.max_user_namespaces=", "sudo vipgate demo"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

/// A copy of the program, alone in a folder.
struct Demo {
    folder: PathBuf,
    /// One after another: times are part of what is tested.
    _turn: MutexGuard<'static, ()>,
}

struct Finished {
    output: Output,
    took: Duration,
    peak_mib: u64,
}

impl Demo {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = std::env::temp_dir().join(format!("vipgate-demo-{}", std::process::id()));
        // A failed test before may have left one.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).expect("a folder");
        // An ordinary user must be able to read it: a program that can't be read has no rights over itself.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("rights");
        let demo = Self { folder, _turn: turn };
        fs::copy(env!("CARGO_BIN_EXE_vipgate"), demo.program()).expect("a copy");
        fs::set_permissions(demo.program(), fs::Permissions::from_mode(0o755)).expect("rights");
        demo
    }

    fn program(&self) -> PathBuf {
        self.folder.join("vipgate")
    }

    fn start(&self, user: User, arguments: &[&str]) -> Child {
        let mut command = as_user(user, &self.program());
        command.arg("demo").args(arguments).env("TMPDIR", &self.folder);
        // What ordinary users of Debian have.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    }

    /// Waits for the end and looks at memory meanwhile.
    fn finish(&self, mut running: Child) -> Finished {
        let begin = Instant::now();
        let mut peak_kib = 0;
        while running.try_wait().expect("our child").is_none() {
            let resident: u64 = self.processes().into_iter().map(resident_kib).sum();
            peak_kib = peak_kib.max(resident);
            if begin.elapsed() > LIMIT + Duration::from_secs(5) {
                signal(&running, Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let took = begin.elapsed();
        let output = running.wait_with_output().expect("its output");
        Finished { output, took, peak_mib: peak_kib / 1024 }
    }

    fn shell(&self, line: &str) -> Output {
        as_user(User::Ordinary, Path::new("sh")).args(["-c", line]).output().expect("a shell")
    }

    /// Running processes of this copy.
    fn processes(&self) -> Vec<u32> {
        let program = self.program();
        let entries = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let ours =
            |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == program);
        ids.filter(ours).collect()
    }

    fn has_left_nothing(&self) {
        let begin = Instant::now();
        while !self.processes().is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(3), "left: {:?}", self.processes());
            thread::sleep(Duration::from_millis(10));
        }
        let files = fs::read_dir(&self.folder).expect("the folder").count();
        assert_eq!(files, 1, "files were left in {}", self.folder.display());
        for interface in ["out0", "in0", "vg-outside", "vg-inside"] {
            let path = Path::new("/sys/class/net").join(interface);
            assert!(!path.exists(), "{interface} was left");
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Finished {
    fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {:?}", self.output))
    }
}

/// Root can play an ordinary user, but not the other way round.
fn as_user(user: User, program: &Path) -> Command {
    if user == User::Root || !getuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
    command.arg("--clear-groups").arg(program);
    command
}

fn signal(child: &Child, signal: Signal) {
    let id = i32::try_from(child.id()).expect("a process id");
    kill(Pid::from_raw(id), signal).expect("our child runs");
}

/// The JSON document that a process prints before it ends.
fn read_document(child: &mut Child) -> Value {
    let output = child.stdout.as_mut().expect("a pipe");
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let len = output.read(&mut buffer).expect("readable");
        text.extend(&buffer[..len]);
        match serde_json::from_slice(&text) {
            Ok(value) => return value,
            Err(_) => assert!(len > 0, "{}", String::from_utf8_lossy(&text)),
        }
    }
}

fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn total(tally: &Value) -> u64 {
    let answers = tally["answers"].as_object().expect("a map");
    answers.values().filter_map(Value::as_u64).sum()
}
