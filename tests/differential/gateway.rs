//! The vipgate process of a world.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use control::admin;

use crate::cluster::Cluster;
use crate::endpoints::is_served;
use crate::netns::{Namespace, Process};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Gateway {
    process: Process,
    folder: PathBuf,
}

impl Gateway {
    /// Starts it with the configuration in a folder, and waits until it can be asked.
    pub(crate) fn start(namespace: &Namespace, folder: &Path) -> Self {
        let log = File::create(folder.join("vipgate.log")).expect("a log file");
        let mut command = namespace.command(env!("CARGO_BIN_EXE_vipgate"));
        command.args(["run", "--config"]).arg(folder.join("vipgate.yaml"));
        command.stdout(Stdio::null()).stderr(log);
        let process = command.spawn().expect("`ip` runs").into();
        let mut gateway = Self { process, folder: folder.to_owned() };
        gateway.until("answers", |_| true);
        gateway
    }

    /// Until all workers have tables with the cluster's Services.
    pub(crate) fn wait_for_services(&mut self, cluster: &Cluster) {
        let services = cluster.services.iter().filter(|service| is_served(service)).count();
        self.until("serves", |status| {
            let tables = &status.tables;
            tables.services == services && tables.acknowledged == tables.generation
        });
    }

    fn until(&mut self, what: &str, condition: impl Fn(&admin::Status) -> bool) {
        let begin = Instant::now();
        loop {
            let status = admin::status(&self.folder.join("vipgate.sock"));
            if status.as_ref().is_ok_and(&condition) {
                return;
            }
            let ended = self.process.child().try_wait().expect("it is our child");
            assert!(ended.is_none(), "vipgate has ended: {ended:?}");
            assert!(begin.elapsed() < PATIENCE, "vipgate: not {what}: {status:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.join("vipgate.log")).unwrap_or_default();
            eprintln!("--- log of vipgate\n{log}---");
        }
    }
}
