//! A process under measurement: started here or in a namespace, paused while another one is measured, ended whatever
//! happens.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Error;

/// How long a process may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// What starts programs so that they end with the thread that started them.
pub(super) const LAUNCHER: &str = "setpriv";

/// A running process. Dropping it ends it at once; it also ends with the thread that started it.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its arguments by way of a command that is [`LAUNCHER`], in a namespace perhaps. What it says
    /// goes to a file in `folder`.
    pub(super) fn start(
        name: &'static str,
        mut launcher: Command,
        line: &[impl AsRef<OsStr>],
        folder: &Path,
    ) -> Result<Self, Error> {
        let failed = |error| Error(format!("cannot start {name}: {error}"));
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(failed)?;
        let child = launcher
            .args(["--pdeathsig", "KILL", "--"])
            .args(line)
            // Where DPDK may make a folder.
            .env("RUNTIME_DIRECTORY", folder)
            .env("NO_COLOR", "1")
            // Without a terminal: testpmd goes on for as long as its input is open.
            .stdin(Stdio::piped())
            .stdout(file.try_clone().map_err(failed)?)
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        Ok(Self { name, child, log })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Takes its core away from it, or gives it back.
    pub(super) fn pause(&self, paused: bool) -> Result<(), Error> {
        self.signal(if paused { Signal::SIGSTOP } else { Signal::SIGCONT })
    }

    /// What a person would type into.
    pub(super) fn input(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// What it has said so far.
    pub(super) fn said(&self) -> String {
        fs::read(&self.log)
            .map(|text| String::from_utf8_lossy(&text).into_owned())
            .unwrap_or_default()
    }

    /// Waits until `ready`, which is given what it has said, says so; an error when that takes too long, or the process ends before.
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

    /// Asks it to end, with a signal.
    pub(super) fn terminate(&self) -> Result<(), Error> {
        self.signal(Signal::SIGTERM)
    }

    /// Waits for its end after it was asked for that. An error says that it did not end well.
    pub(super) fn end(mut self) -> Result<(), Error> {
        self.pause(false)?;
        let begin = Instant::now();
        while begin.elapsed() < END {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(self.fault(&format!("ended with {status}"))),
                _ => thread::sleep(LOOK),
            }
        }
        Err(self.fault(&format!("did not end in {END:?}")))
    }

    /// Something is wrong with it: that, and the end of what it said.
    pub(super) fn fault(&self, what: &str) -> Error {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(10)..].join("\n  ");
        Error(format!("{} {what}; it said last:\n  {tail}", self.name))
    }

    fn signal(&self, signal: Signal) -> Result<(), Error> {
        let id = i32::try_from(self.child.id()).unwrap_or_default();
        kill(Pid::from_raw(id), signal)
            .map_err(|error| self.fault(&format!("is gone ({signal}: {error})")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
