//! C's negative returns as errors an operator can act on.
//!
//! A [`Failure`] carries what DPDK logged on the calling thread during the operation: DPDK says the
//! cause there and returns only a number.

use std::ffi::c_int;
use std::fmt;

use nix::errno::Errno;

use super::{log, sys};

const QUOTED_LINES: usize = 6;

/// Why DPDK could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DpdkError {
    /// EAL cannot be started a second time in a process, not even after it was shut down.
    #[error("DPDK was already initialised in this process; it can be initialised only once")]
    AlreadyInitialised,
    /// The calling thread is an lcore already.
    #[error("this thread is registered with DPDK already, as lcore {lcore}")]
    ThreadRegistered { lcore: u32 },
    /// An argument that C cannot take.
    #[error("{what} {value:?} contains a NUL byte")]
    NulByte { what: &'static str, value: String },
    /// No driver brought up a port of this name.
    #[error("no port {name}; DPDK found {}{}{}", list(present), quote(log), advice(remedy_of(log)))]
    NoSuchPort { name: String, present: Vec<String>, log: Vec<String> },
    /// A port has one owner.
    #[error("port {name} is open already")]
    PortOpen { name: String },
    /// The device has fewer queues than workers need.
    #[error("port {name} offers {offered} {direction} queue(s), {asked} worker(s) need {asked}")]
    TooFewQueues { name: String, direction: &'static str, offered: u16, asked: u16 },
    /// Frames of this MTU do not fit the device.
    #[error("port {name} takes an MTU of {min} to {max} bytes, not {asked}")]
    Mtu { name: String, min: u16, max: u16, asked: u16 },
    /// Frames of this MTU do not fit the pool's buffers, and a frame must be one segment.
    #[error(
        "port {name}: MTU {mtu} needs a larger buffer than pool {pool} has (made for MTU {fits})"
    )]
    PoolTooSmall { name: String, pool: String, mtu: u16, fits: u16 },
    /// Queue pairs are still with their workers.
    #[error("cannot {operation} port {name} while workers hold its queues")]
    QueuesInUse { name: String, operation: &'static str },
    /// [`super::Port::start`] without [`super::Port::configure`].
    #[error("port {name} is not configured")]
    NotConfigured { name: String },
    /// DPDK refused.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// One DPDK call that failed.
#[derive(Debug)]
pub struct Failure {
    operation: String,
    errno: Errno,
    log: Vec<String>,
}

impl Failure {
    /// What was attempted, as in "start port net_tap0".
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The reason as DPDK or the kernel numbered it.
    #[must_use]
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// What the operator can do about it, when that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        remedy_of(&self.log).or(match self.errno {
            Errno::EACCES | Errno::EPERM => {
                Some("run as root, or give the process CAP_NET_ADMIN, CAP_IPC_LOCK and /dev/vfio")
            }
            Errno::ENOMEM => Some("raise the memory given to DPDK, or the number of huge pages"),
            _ => None,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, log) = (self.errno.desc(), quote(&self.log));
        write!(f, "cannot {}: {reason}{log}{}", self.operation, advice(self.remedy()))
    }
}

impl std::error::Error for Failure {}

/// Runs a call that returns a negative errno, or -1 with `rte_errno` set.
pub(super) fn check(
    operation: impl Into<String>,
    call: impl FnOnce() -> c_int,
) -> Result<c_int, Failure> {
    let (result, log) = log::recording(call);
    if result >= 0 {
        return Ok(result);
    }
    // EPERM is 1, so -1 cannot be told from it; rte_errno decides when it has something to say.
    let code = match (result, errno()) {
        (-1, set) if set > 0 => set,
        (negative, _) => -negative,
    };
    Err(Failure { operation: operation.into(), errno: Errno::from_raw(code), log })
}

/// Runs a call that returns a null pointer with `rte_errno` set.
pub(super) fn check_pointer<T>(
    operation: impl Into<String>,
    call: impl FnOnce() -> *mut T,
) -> Result<std::ptr::NonNull<T>, Failure> {
    let (pointer, log) = log::recording(call);
    std::ptr::NonNull::new(pointer).ok_or_else(|| Failure {
        operation: operation.into(),
        errno: Errno::from_raw(errno()),
        log,
    })
}

fn errno() -> c_int {
    // SAFETY: reads a thread-local integer.
    unsafe { sys::vipgate_errno() }
}

fn remedy_of(log: &[String]) -> Option<&'static str> {
    log.iter().find_map(|line| log::remedy(line))
}

fn advice(remedy: Option<&str>) -> String {
    remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The first lines: they name the cause, later ones its consequences.
fn quote(log: &[String]) -> String {
    let log = &log[..log.len().min(QUOTED_LINES)];
    if log.is_empty() { String::new() } else { format!(" (DPDK: {})", log.join("; ")) }
}
