//! SIGINT and SIGTERM as something to look at between two polls.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that ask the process to end.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Holds the signals back from here on: to be called before other threads are made, which inherit it.
    pub(super) fn catch() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.thread_block()?;
        SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// How many have come since the last look.
    pub(super) fn pending(&mut self) -> usize {
        let mut count = 0;
        while let Ok(Some(_)) = self.0.read_signal() {
            count += 1;
        }
        count
    }
}
