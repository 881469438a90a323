//! A network namespace that lives as long as its value, and processes in it that do not outlive theirs.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names of all namespaces begin so; the process that made them comes next.
const PREFIX: &str = "vge2e-";

/// A namespace with its loopback device up.
pub(crate) struct Namespace {
    name: String,
}

/// A process that is killed when its value goes.
pub(crate) struct Process(Child);

/// Why namespaces can't be made here.
pub(crate) fn unavailable() -> Option<String> {
    static SWEEP: Once = Once::new();
    SWEEP.call_once(sweep);
    let name = format!("{PREFIX}{}-probe", std::process::id());
    let run = |verb| Command::new("ip").args(["netns", verb, &name]).output();
    let reason = match run("add") {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(text(&output.stderr)),
        Err(error) => Some(format!("cannot run `ip`: {error}")),
    };
    let _ = run("del");
    reason
}

impl Namespace {
    /// `number` tells the sites of this process apart.
    pub(crate) fn new(number: u32, role: &str) -> Self {
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        must(Command::new("ip").args(["netns", "add", &name]));
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `ip` in here, with arguments separated by blanks.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        must(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()))
    }

    /// A program in here. The process is the program itself: its id is the program's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).stdin(Stdio::null());
        command
    }

    /// Output of a command line that ends by itself, or is killed after some seconds.
    pub(crate) fn output(&self, seconds: u32, line: &str) -> Output {
        let mut command = self.command("timeout");
        command.args(["-s", "KILL", &seconds.to_string()]).args(line.split_whitespace());
        command.output().expect("`ip` runs")
    }

    /// The same; fails unless the command succeeds.
    pub(crate) fn sh(&self, seconds: u32, line: &str) -> String {
        let output = self.output(seconds, line);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(
            output.status.success(),
            "{}: `{line}`: {}\n{out}\n{err}",
            self.name,
            output.status
        );
        out
    }

    /// A server in here.
    pub(crate) fn serve(&self, line: &str) -> Process {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().expect("a program"));
        command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().expect("`ip` runs"))
    }

    /// Runs code whose sockets, threads and files below /proc/sys/net belong to this namespace.
    pub(crate) fn run<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.name);
        let enter = move || {
            let file = File::open(&path).expect("the namespace has a name");
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            code()
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Sum of all counters of this kernel whose name contains a text, as in `nstat`.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        let lines = self.sh(5, "nstat -asz");
        let words = lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let counters = words.filter(|words| words.len() > 1 && words[0].contains(name));
        counters.map(|words| words[1].parse::<u64>().unwrap_or_default()).sum()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

impl Process {
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// SIGKILL, and the end of the process.
    pub(crate) fn kill(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end; fails unless it succeeds.
fn must(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Removes what earlier runs have left that were killed.
fn sweep() {
    let ip = |arguments: &[&str]| {
        let output = Command::new("ip").arg("netns").args(arguments).output();
        output.map_or_else(|_| String::new(), |output| text(&output.stdout))
    };
    let list = ip(&["list"]);
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some((maker, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'))
        else {
            continue;
        };
        // One that has ended but that nobody waits for is still there, but has no program any more.
        if Path::new("/proc").join(maker).join("exe").read_link().is_ok() {
            continue;
        }
        for pid in ip(&["pids", name]).lines().filter_map(|pid| pid.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        ip(&["del", name]);
        let site = name.rsplit_once('-').map_or(name, |(site, _)| site);
        let _ = fs::remove_dir_all(std::env::temp_dir().join(site));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
