//! Cores that two threads have for themselves, as far as a shared machine allows: the generator's and the device's.
//!
//! Both are real-time threads, so that no other process takes their place in the middle of a trial; between trials both
//! let others run. What happens all the same is noticed: the kernel tells how long a thread waited for its core, and a
//! trial in which one of them did says nothing about the device.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::gettid;

use super::super::Error;

/// A thread that must not wait for its core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    process: u32,
    id: i32,
}

impl Thread {
    /// The calling thread.
    pub(super) fn current() -> Self {
        Self { process: std::process::id(), id: gettid().as_raw() }
    }

    /// The first thread of a process whose name begins like this.
    pub(super) fn named(process: u32, prefix: &str) -> Option<Self> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
        let mut named = tasks.filter(|task| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(prefix))
        });
        let id = named.find_map(|task| task.file_name().to_str()?.parse().ok())?;
        Some(Self { process, id })
    }

    /// Makes it a real-time thread. Round-robin, for one device can only end when the other lets it.
    pub(super) fn prefer(self) -> Result<(), Error> {
        let id = self.id.to_string();
        match Command::new("chrt").args(["--rr", "--pid", "1", &id]).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(Error(format!(
                "cannot give thread {id} real-time priority: {}; allow CAP_SYS_NICE and a real-time budget",
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
            Err(error) => Err(Error(format!("cannot run `chrt` ({error}): install util-linux"))),
        }
    }

    /// Nanoseconds it has waited for its core since it began; 0 where the kernel does not tell.
    pub(super) fn waited(self) -> u64 {
        let Self { process, id } = self;
        let file = format!("/proc/{process}/task/{id}/schedstat");
        let text = fs::read_to_string(Path::new(&file)).unwrap_or_default();
        text.split_whitespace().nth(1).and_then(|delay| delay.parse().ok()).unwrap_or(0)
    }
}
