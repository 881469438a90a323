//! The gateway itself: `vipgate run` as anybody would start it, its manifests, its answers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use control::admin::{self, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::child::Role;
use super::failure::Failure;
use super::manifests::{self, Conditions};
use super::namespaces::FILES;
use super::peer;
use super::plan::{Family, GATEWAY_INSIDE, GATEWAY_OUTSIDE, INSIDE, Kind, OUTSIDE};

/// How long it may take to start, to take over a change, and to end.
const START: Duration = Duration::from_secs(8);
const CHANGE: Duration = Duration::from_secs(4);
const END: Duration = Duration::from_secs(3);
/// Time between two questions.
const LOOK: Duration = Duration::from_millis(10);

/// The running process. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Gateway {
    process: Child,
    /// Generation of the tables before the last change.
    before: u64,
}

impl Gateway {
    /// Starts it on the near ends of both cables, and waits until it serves.
    pub(super) fn start(conditions: &Conditions) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::setup("start the gateway", error);
        let folder = folder();
        fs::create_dir_all(&folder).map_err(failed)?;
        let config = Path::new(FILES).join("vipgate.yaml");
        fs::write(&config, configuration(&cores())).map_err(failed)?;
        manifests::write(&folder, "services.yaml", &manifests::services()).map_err(failed)?;
        manifests::write(&folder, "endpoints.yaml", &manifests::slices(conditions))
            .map_err(failed)?;
        let log = File::create(log_file()).map_err(failed)?;
        let mut command = Role::Gateway.command().map_err(failed)?;
        command.args(["run", "--config"]).arg(config);
        // DPDK would use /var/run otherwise, which need not be the /run that is ours.
        command.env("RUNTIME_DIRECTORY", FILES).env("NO_COLOR", "1").stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(failed)?).stderr(log);
        let process = peer::spawn(&mut command).map_err(failed)?;
        let mut gateway = Self { process, before: 0 };
        gateway.wait("serve its Services", START, |status| {
            let tables = &status.tables;
            tables.services == Kind::ALL.len() && tables.acknowledged >= tables.generation
        })?;
        Ok(gateway)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its answer to `vipgate status`.
    pub(super) fn status(&self) -> Result<Status, Failure> {
        admin::status(&socket()).map_err(|error| failure(error.to_string()))
    }

    /// Changes the cluster, from now on: replaces the slices.
    pub(super) fn change(&mut self, conditions: &Conditions) -> Result<(), Failure> {
        self.before = self.status()?.tables.generation;
        manifests::write(&folder(), "endpoints.yaml", &manifests::slices(conditions))
            .map_err(|error| Failure::setup("write the manifests", error))
    }

    /// Whether every worker decides by the last change.
    pub(super) fn changed(&self) -> Result<bool, Failure> {
        let tables = self.status()?.tables;
        Ok(tables.generation > self.before && tables.acknowledged >= tables.generation)
    }

    /// Ends it as an operator would; an error says that it did not end well.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let id = i32::try_from(self.process.id()).unwrap_or_default();
        kill(Pid::from_raw(id), Signal::SIGTERM)
            .map_err(|error| Failure::setup("stop the gateway", error))?;
        let begin = Instant::now();
        while begin.elapsed() < END {
            match self.process.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failure(format!("has ended with {status}"))),
                _ => thread::sleep(LOOK),
            }
        }
        Err(failure(format!("did not end {END:?} after SIGTERM")))
    }

    /// It did something wrong.
    pub(super) fn failure(&self, what: String) -> Failure {
        failure(what)
    }

    /// How long a change may take.
    pub(super) const fn patience() -> Duration {
        CHANGE
    }

    fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&Status) -> bool,
    ) -> Result<(), Failure> {
        let begin = Instant::now();
        let mut last = String::new();
        while begin.elapsed() < limit {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(failure(format!("has ended with {status}")));
            }
            match admin::status(&socket()) {
                Ok(status) if enough(&status) => return Ok(()),
                Ok(status) => last = format!("; it says {:?}", status.tables),
                Err(error) => last = format!("; {error}"),
            }
            thread::sleep(LOOK);
        }
        Err(failure(format!("does not {what} after {limit:?}{last}")))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended as it should.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(FILES).join("manifests")
}

fn socket() -> PathBuf {
    Path::new(FILES).join("vipgate.sock")
}

fn log_file() -> PathBuf {
    Path::new(FILES).join("gateway.log")
}

/// With the end of the log.
fn failure(what: String) -> Failure {
    let log = fs::read_to_string(log_file()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = &lines[lines.len().saturating_sub(12)..];
    Failure::Gateway { what, log: tail.join("\n") }
}

/// One worker: on the last core, so that it disturbs the control thread (on the first) only where there is one core.
fn cores() -> String {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.last().map(|core| core.id.to_string()).unwrap_or_default()
}

fn configuration(worker_core: &str) -> String {
    let families = Family::here();
    let list = |texts: Vec<String>| texts.join("\", \"");
    let own =
        |pair: super::plan::Pair| list(families.iter().map(|f| pair.in_network(*f)).collect());
    let announce = |f: &Family| format!("{}/{}", Kind::LoadBalancer.vip().of(*f), f.prefixes().1);
    format!(
        "\
# Written by `vipgate demo`.
ports:
- name: outside
  vdev: net_af_packet0,iface={OUTSIDE}
  descriptors: 256
  addresses: [\"{}\"]
  announce: [\"{}\"]
- name: inside
  vdev: net_af_packet1,iface={INSIDE}
  descriptors: 256
  addresses: [\"{}\"]
workers:
  cores: [{worker_core}]
  idle: sleep
memory:
  hugePages: false
conntrack:
  connections: 10000
source:
  manifests:
    path: {}
services:
  role: edge
admin:
  socket: {}
",
        own(GATEWAY_OUTSIDE),
        list(families.iter().map(announce).collect()),
        own(GATEWAY_INSIDE),
        folder().display(),
        socket().display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_one() {
        let config = control::config::Config::parse(&configuration("1"), "demo").expect("valid");
        config.require_runnable().expect("complete");
        assert_eq!(config.ports.len(), 2);
    }
}
