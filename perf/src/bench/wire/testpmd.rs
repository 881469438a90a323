//! `dpdk-testpmd` in macswap mode: what every device of DPDK must do, and nothing else.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::super::Error;
use super::super::process::{LAUNCHER, Process};
use super::gateway::Place;

const START: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(2);
const PROMPT: &str = "testpmd>";
pub(super) const MIB: u32 = 128;
const BUFFERS: u32 = 16_384;

/// A running testpmd.
#[derive(Debug)]
pub(super) struct Testpmd {
    pub(super) process: Process,
}

impl Testpmd {
    /// Starts it and waits until it forwards.
    pub(super) fn start(program: &Path, place: &Place<'_>) -> Result<Self, Error> {
        let [worker, main] = place.cores;
        let line = [
            // What it says shall come when it says it, although nobody sits at a terminal.
            "stdbuf".into(),
            "-oL".into(),
            program.display().to_string(),
            format!("--lcores=0@{main},1@{worker}"),
            format!("-m{MIB}"),
            "--no-pci".into(),
            "--no-telemetry".into(),
            "--in-memory".into(),
            "--single-file-segments".into(),
            format!("--file-prefix=perf-testpmd-{}", std::process::id()),
            format!("--vdev={}", place.vdev()),
            "--".into(),
            "-i".into(),
            "--auto-start".into(),
            "--forward-mode=macswap".into(),
            "--nb-cores=1".into(),
            format!("--total-num-mbufs={BUFFERS}"),
            format!("--rxd={}", place.ring),
            format!("--txd={}", place.ring),
            "--record-core-cycles".into(),
        ];
        let launcher = Command::new(LAUNCHER);
        let mut process = Process::start("testpmd", launcher, &line, place.folder)?;
        process.wait("start", START, |said| said.contains(PROMPT))?;
        Ok(Self { process })
    }

    /// Cycles a packet since it was last asked to forget.
    pub(super) fn cycles_per_packet(&mut self) -> Result<f64, Error> {
        let said = self.ask("show fwd stats all\n", "CPU cycles/packet=")?;
        let number = said.rsplit("CPU cycles/packet=").next().unwrap_or_default();
        let number: String =
            number.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        number.parse().map_err(|_| self.process.fault("did not tell its cycles"))
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) -> Result<(), Error> {
        self.ask("clear fwd stats all\n", PROMPT).map(drop)
    }

    /// Types what one types to leave it.
    pub(super) fn end(mut self) -> Result<(), Error> {
        self.say("quit\n")?;
        self.process.end()
    }

    fn say(&mut self, command: &str) -> Result<(), Error> {
        let typed = self.process.input().map(|input| input.write_all(command.as_bytes()));
        match typed {
            Some(Ok(())) => Ok(()),
            _ => Err(self.process.fault("does not listen")),
        }
    }

    /// Types a command and waits until the answer holds `mark`.
    fn ask(&mut self, command: &str, mark: &str) -> Result<String, Error> {
        let before = self.process.said().len();
        self.say(command)?;
        let mut answer = String::new();
        self.process.wait("answer", ANSWER, |said| {
            answer = said.get(before..).unwrap_or_default().to_owned();
            answer.contains(mark)
        })?;
        Ok(answer)
    }
}
