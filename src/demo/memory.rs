//! How much memory the demo took at most.

use std::fs;

/// The sum of what each process had in memory at its peak, in MiB. Libraries that they share count each time, so the
/// truth is less.
pub(super) fn peak_mib(processes: &[u32]) -> u64 {
    processes.iter().map(|id| peak_kib(*id)).sum::<u64>().div_ceil(1024)
}

fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_default()
}
