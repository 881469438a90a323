//! DPDK's log lines, in our log.
//!
//! DPDK writes to a C stream whose write function is [`sink`]; it runs on the thread that logs, while
//! DPDK still knows the level. Errors logged during an operation are also kept for its `DpdkError`.

use std::cell::{Cell, RefCell};
use std::ffi::c_char;
use std::slice;

use super::sys;

/// Lines kept of one operation; the start of EAL may complain about several devices.
const RECORDED_LINES: usize = 32;

thread_local! {
    /// The lines of the operation this thread is in, if it records.
    static RECORD: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
    /// Whether this thread tries something that may fail, and has another way then.
    static TRYING: Cell<bool> = const { Cell::new(false) };
}

/// What to do about the failures everybody meets, by a part of DPDK's line.
const REMEDIES: &[(&str, &str)] = &[
    ("hugepages reported", NO_HUGE_PAGES),
    ("Cannot get hugepage information", NO_HUGE_PAGES),
    ("Not enough memory available", NO_HUGE_PAGES),
    ("Cannot init memory", NO_HUGE_PAGES),
    ("physical addresses are not available", "enable the IOMMU (intel_iommu=on or amd_iommu=on)"),
    ("group is not viable", "bind every device of the IOMMU group to vfio-pci: dpdk-devbind.py -b"),
    (
        "cannot open VFIO container",
        "load vfio-pci (modprobe vfio-pci) and let this user read /dev/vfio/vfio",
    ),
    ("failed to open VFIO group", "let this user read and write /dev/vfio/*, or run as root"),
    ("cannot set up DMA remapping", "raise the locked-memory limit (ulimit -l unlimited)"),
    ("Is another primary process running", "another DPDK process uses this file prefix"),
    ("Cannot find requested", "install the driver plug-ins (Debian: the librte-* packages)"),
    ("Cannot init plugin", "install the driver plug-ins (Debian: the librte-* packages)"),
    ("Permission denied", "run as root, or give this user access to the device"),
    ("Operation not permitted", "run as root, or give this user access to the device"),
    ("No such device", "the interface or device named in the configuration does not exist here"),
];
const NO_HUGE_PAGES: &str = "reserve huge pages (echo 1024 > /proc/sys/vm/nr_hugepages, as root), \
    or run without them for a trial";

/// Sends DPDK's log here, from now on.
pub(super) fn capture() -> Result<(), super::Failure> {
    // SAFETY: `sink` is a plain function and lives for ever.
    super::error::check("redirect DPDK's log", || unsafe { sys::vipgate_log_to(Some(sink)) })?;
    Ok(())
}

/// Runs `operation` and returns, besides its result, the errors this thread logged in it.
pub(super) fn recording<T>(operation: impl FnOnce() -> T) -> (T, Vec<String>) {
    let outer = RECORD.replace(Some(Vec::new()));
    let result = operation();
    let lines = RECORD.replace(outer).unwrap_or_default();
    RECORD.with_borrow_mut(|outer| outer.as_mut().map(|outer| outer.extend_from_slice(&lines)));
    (result, lines)
}

/// Runs an operation that may fail: what DPDK calls errors in it are none to the operator.
pub(super) fn trying<T>(operation: impl FnOnce() -> T) -> T {
    let outer = TRYING.replace(true);
    let result = operation();
    TRYING.set(outer);
    result
}

/// What the operator can do about a line of DPDK's log, when that is known.
pub(super) fn remedy(line: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(part, _)| line.contains(part)).map(|&(_, remedy)| remedy)
}

extern "C" fn sink(level: u32, text: *const c_char, length: usize) {
    // SAFETY: the C library passes the bytes it wants written, valid for the duration of this call.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    let level = Level::from_rte(level);
    for line in String::from_utf8_lossy(bytes).lines().map(str::trim_end) {
        if !line.is_empty() {
            level.emit(line);
            level.record(line);
        }
    }
}

#[derive(Clone, Copy)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Level {
    /// DPDK's "info" tells every step of the start, so what it calls a notice is our information.
    fn from_rte(level: u32) -> Self {
        match level {
            0..=4 => Self::Error,
            5 => Self::Warn,
            6 => Self::Info,
            7 => Self::Debug,
            _ => Self::Trace,
        }
    }

    fn emit(self, line: &str) {
        match self {
            Self::Error if TRYING.get() => tracing::debug!(target: "dpdk", "{line}"),
            // Only errors come with advice: a warning about 1 GiB pages, say, is usual and harmless.
            Self::Error => match remedy(line) {
                Some(remedy) => tracing::error!(target: "dpdk", remedy, "{line}"),
                None => tracing::error!(target: "dpdk", "{line}"),
            },
            Self::Warn => tracing::warn!(target: "dpdk", "{line}"),
            Self::Info => tracing::info!(target: "dpdk", "{line}"),
            Self::Debug => tracing::debug!(target: "dpdk", "{line}"),
            Self::Trace => tracing::trace!(target: "dpdk", "{line}"),
        }
    }

    fn record(self, line: &str) {
        if !matches!(self, Self::Error) {
            return;
        }
        RECORD.with_borrow_mut(|record| match record {
            Some(lines) if lines.len() < RECORDED_LINES => lines.push(line.to_owned()),
            _ => {}
        });
    }
}
