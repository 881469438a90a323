//! A child process with a network namespace of its own, seen from the demo: started, asked, ended.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::Role;
use super::failure::Failure;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module. Dropping it ends the process.
#[derive(Debug)]
pub(super) struct Peer {
    name: &'static str,
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Peer {
    /// Starts the process and waits until it is in its namespace.
    pub(super) fn start(role: Role) -> Result<Self, Failure> {
        let name = role.name();
        let failed = |error: String| Failure::Peer { peer: name, error };
        let mut command = role.command().map_err(|error| failed(error.to_string()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn(&mut command).map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed("no pipes".to_owned()));
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut peer = Self { name, process, input, lines };
        peer.answer::<()>()?;
        Ok(peer)
    }

    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Says something and waits for the answer.
    pub(super) fn ask<A: DeserializeOwned>(&mut self, say: &impl Serialize) -> Result<A, Failure> {
        let mut line = serde_json::to_vec(say).map_err(|error| self.failed(error))?;
        line.push(b'\n');
        self.input.write_all(&line).map_err(|error| self.failed(error))?;
        self.answer()
    }

    fn answer<A: DeserializeOwned>(&mut self) -> Result<A, Failure> {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.map_err(|_| self.failed("does not answer"))?;
        let answer: Result<A, String> =
            serde_json::from_str(&line).map_err(|error| self.failed(error))?;
        answer.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl ToString) -> Failure {
        Failure::Peer { peer: self.name, error: error.to_string() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It has nothing to lose, and may have ended before.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a process that Ctrl-C on the terminal does not reach: the demo ends its children itself.
pub(super) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    use std::os::unix::process::CommandExt;
    command.process_group(0).spawn()
}
