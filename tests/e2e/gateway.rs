//! The vipgate process: started with a configuration, asked for its metrics, stopped, or killed with the test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::{Namespace, Process, text};
use crate::site::until;

/// Where `/metrics` is, inside the gateway's namespace.
pub(crate) const HTTP_PORT: u16 = 10256;
const VIPGATE: &str = env!("CARGO_BIN_EXE_vipgate");

/// A running gateway.
pub(crate) struct Gateway {
    process: Process,
    log: PathBuf,
}

/// One reading of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Metrics(String);

impl Gateway {
    /// Starts it and waits until it answers.
    pub(crate) fn start(namespace: &Namespace, config: &Path) -> Self {
        let log = config.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let mut command = namespace.command(VIPGATE);
        command.args(["run", "--config"]).arg(config);
        command.stdout(Stdio::null()).stderr(file);
        let process = command.spawn().expect("`ip` runs").into();
        let mut gateway = Self { process, log };
        until(Duration::from_secs(20), "vipgate answers", || {
            if let Ok(Some(status)) = gateway.process.child().try_wait() {
                panic!("vipgate has ended: {status}");
            }
            get(namespace, "/livez").is_some()
        });
        gateway
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let child = self.process.child();
        let pid = i32::try_from(child.id()).expect("process ids are small");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "vipgate does not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        let child = self.process.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of vipgate\n{log}---");
        }
    }
}

/// Exit code and output of `vipgate status`.
pub(crate) fn status(namespace: &Namespace, socket: &Path, format: &str) -> (Option<i32>, String) {
    let line = format!("{VIPGATE} status --socket {} -o {format}", socket.display());
    let output = namespace.output(10, &line);
    (output.status.code(), text(&output.stdout))
}

/// Status line, headers and body of an HTTP answer of the gateway; `None` when it can't be reached.
pub(crate) fn get(namespace: &Namespace, path: &str) -> Option<String> {
    namespace.run(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, HTTP_PORT)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: vipgate\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

impl Metrics {
    pub(crate) fn read(namespace: &Namespace) -> Self {
        Self(get(namespace, "/metrics").expect("vipgate answers"))
    }

    /// Sum of a metric over all its series whose labels contain a text.
    pub(crate) fn sum_of(&self, name: &str, label: &str) -> u64 {
        let name = format!("vipgate_{name}");
        let series = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(&name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let whole = labels.is_empty() || labels.starts_with('{');
            (whole && labels.contains(label)).then(|| value.parse::<u64>().ok())?
        });
        series.sum()
    }

    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.sum_of(name, "")
    }

    /// Frames dropped for a reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.sum_of("drop_packets_total", &format!("reason=\"{reason}\""))
    }

    /// Frames that came to workers, and frames that have ended, in whichever way.
    pub(crate) fn balance(&self) -> (u64, u64) {
        let came = ["port_rx_packets", "worker_injected_packets", "worker_handed_in_packets"];
        let ended = ["worker_packets", "drop_packets"];
        let total = |names: &[&str]| -> u64 {
            names.iter().map(|name| self.sum(&format!("{name}_total"))).sum()
        };
        let waiting = ["worker_parked_packets", "worker_held_packets"];
        let waiting: u64 = waiting.iter().map(|name| self.sum(name)).sum();
        (total(&came), total(&ended) + waiting)
    }
}
