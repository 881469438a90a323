//! A gateway's process in its namespace. It ends with its value, and with the thread that started it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Error;
use super::namespace::Namespace;

const LOOK: Duration = Duration::from_millis(20);

/// A running process.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; what it says goes to a file in the folder.
    pub(super) fn start(
        name: &'static str,
        namespace: &Namespace,
        folder: &Path,
        line: &[OsString],
    ) -> Result<Self, Error> {
        let failed = |error| Error(format!("cannot start {name}: {error}"));
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(failed)?;
        let mut command = namespace.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(line);
        // Where DPDK may make a folder.
        command.env("RUNTIME_DIRECTORY", folder).env("NO_COLOR", "1");
        // Without a terminal: testpmd goes on for as long as its input is open.
        command.stdin(Stdio::piped()).stdout(file.try_clone().map_err(failed)?).stderr(file);
        let child = command.spawn().map_err(failed)?;
        Ok(Self { name, child, log })
    }

    /// Waits until `ready`, which is given what it has said, is true.
    pub(super) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&str) -> bool,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        while !ready(&self.said()) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.fault(&format!("ended with {status}")));
            }
            if begin.elapsed() > limit {
                return Err(self.fault(&format!("did not {what} in {limit:?}")));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Something is wrong with it: that, and the end of what it said.
    pub(super) fn fault(&self, what: &str) -> Error {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n  ");
        Error(format!("{} {what}; it said last:\n  {tail}", self.name))
    }

    fn said(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already. Its devices are cleaned when they are moved to the next gateway.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
