//! Where a run took place: what must be equal for two runs to be compared, and how busy the machine was.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What does not change from run to run on one machine with one build.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Of the time stamp counter, whose cycles all figures in cycles are.
    pub(crate) tsc_ghz: f64,
    /// From the smallest to the largest, of the first core.
    pub(crate) caches: Vec<String>,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) dpdk: String,
    /// Whether a hypervisor runs below.
    pub(crate) hypervisor: bool,
    /// The instruction sets this program was built for.
    pub(crate) target_cpu: String,
    /// `release` or `debug`.
    pub(crate) build: String,
}

impl Machine {
    /// This machine, and this build of the program.
    pub(crate) fn here() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        let meminfo = read("/proc/meminfo");
        let unknown = || "unknown".to_owned();
        Self {
            cpu: field(&cpuinfo, "model name").map_or_else(unknown, Into::into),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            tsc_ghz: tsc_ghz(),
            caches: caches(),
            memory_gib: kibibytes(&meminfo, "MemTotal").div_ceil(1 << 20),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            dpdk: dpdk().unwrap_or_else(unknown),
            hypervisor: flags.split(' ').any(|flag| flag == "hypervisor"),
            target_cpu: target_cpu().into(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
        }
    }

    /// Name and value of every fact, for people and for comparing.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let below = if self.hypervisor { "yes" } else { "no" };
        vec![
            ("CPU", self.cpu.clone()),
            ("cores", self.cores.to_string()),
            ("TSC", format!("{:.2} GHz", self.tsc_ghz)),
            ("caches", self.caches.join(", ")),
            ("memory", format!("{} GiB", self.memory_gib)),
            ("hypervisor", below.into()),
            ("kernel", self.kernel.clone()),
            ("DPDK", self.dpdk.clone()),
            ("target-cpu", self.target_cpu.clone()),
            ("build", self.build.clone()),
        ]
    }
}

/// What the machine did just before a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Before {
    /// The kernel's load averages of 1, 5 and 15 minutes; building this program counts in them.
    pub(crate) load: String,
    /// How much of all CPUs was in use for half a second before the run.
    pub(crate) busy_percent: f64,
    pub(crate) huge_pages: HugePages,
}

/// Huge pages of the default size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HugePages {
    pub(crate) size_kib: u64,
    pub(crate) total: u64,
    pub(crate) free: u64,
}

impl Before {
    /// Looks for half a second.
    pub(crate) fn look() -> Self {
        let load = read("/proc/loadavg");
        let times = CpuTimes::now();
        std::thread::sleep(Duration::from_millis(500));
        let meminfo = read("/proc/meminfo");
        Self {
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            busy_percent: times.since().busy,
            huge_pages: HugePages {
                size_kib: kibibytes(&meminfo, "Hugepagesize"),
                total: kibibytes(&meminfo, "HugePages_Total"),
                free: kibibytes(&meminfo, "HugePages_Free"),
            },
        }
    }
}

/// The kernel's account of all CPUs' time, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTimes {
    total: u64,
    idle: u64,
    stolen: u64,
}

/// Shares of all CPUs' time, in per cent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shares {
    /// Not idle, and not taken by the hypervisor.
    pub(crate) busy: f64,
    /// Taken by the hypervisor while a CPU wanted to run.
    pub(crate) stolen: f64,
}

impl CpuTimes {
    pub(crate) fn now() -> Self {
        Self::parse(&read("/proc/stat"))
    }

    pub(crate) fn since(self) -> Shares {
        Self::now().minus(self)
    }

    /// The first line: `cpu user nice system idle iowait irq softirq steal guest guest_nice`; guests count as user, too.
    fn parse(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        let times: Vec<u64> =
            first.split_whitespace().skip(1).take(8).filter_map(|time| time.parse().ok()).collect();
        let at = |index: usize| times.get(index).copied().unwrap_or(0);
        Self { total: times.iter().sum(), idle: at(3) + at(4), stolen: at(7) }
    }

    fn minus(self, earlier: Self) -> Shares {
        let total = self.total.saturating_sub(earlier.total);
        let idle = self.idle.saturating_sub(earlier.idle);
        let stolen = self.stolen.saturating_sub(earlier.stolen);
        let busy = total.saturating_sub(idle + stolen);
        Shares { busy: share(busy, total), stolen: share(stolen, total) }
    }
}

#[expect(clippy::cast_precision_loss, reason = "ticks of one run")]
fn share(part: u64, total: u64) -> f64 {
    part as f64 / total.max(1) as f64 * 100.0
}

/// What the compiler was allowed, which is what `-Ctarget-cpu` comes to.
fn target_cpu() -> &'static str {
    if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else if cfg!(all(target_feature = "avx512f", target_feature = "avx512vl")) {
        "x86-64-v4"
    } else if cfg!(all(target_feature = "avx2", target_feature = "bmi2")) {
        "x86-64-v3"
    } else if cfg!(target_feature = "sse4.2") {
        "x86-64-v2"
    } else {
        "x86-64"
    }
}

/// Against the monotonic clock for a twentieth of a second; told to 10 MHz, so that it is the same every time.
#[expect(clippy::cast_precision_loss, reason = "cycles of a twentieth of a second")]
fn tsc_ghz() -> f64 {
    let (start, cycles) = (Instant::now(), vipgate::dpdk::cycles());
    std::thread::sleep(Duration::from_millis(50));
    let cycles = vipgate::dpdk::cycles() - cycles;
    let ghz = cycles as f64 / start.elapsed().as_secs_f64() / 1e9;
    (ghz * 100.0).round() / 100.0
}

fn caches() -> Vec<String> {
    let folder = "/sys/devices/system/cpu/cpu0/cache";
    (0..8)
        .map(|index| format!("{folder}/index{index}"))
        .filter(|cache| fs::exists(cache).unwrap_or(false))
        .map(|cache| {
            let part = |name: &str| read(&format!("{cache}/{name}")).trim().to_owned();
            let kind = match part("type").as_str() {
                "Data" => "d",
                "Instruction" => "i",
                _ => "",
            };
            format!("L{}{kind} {}", part("level"), size(&part("size")))
        })
        .collect()
}

/// `491520K` is easier to read as `480 MiB`.
fn size(kibibytes: &str) -> String {
    match kibibytes.trim_end_matches('K').parse::<u64>() {
        Ok(size) if size >= 1024 && size.is_multiple_of(1024) => format!("{} MiB", size / 1024),
        Ok(size) => format!("{size} KiB"),
        Err(_) => kibibytes.to_owned(),
    }
}

/// The library this program was built against.
fn dpdk() -> Option<String> {
    let output = Command::new("pkg-config").args(["--modversion", "libdpdk"]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

/// A number of `/proc/meminfo`; 0 where it is not told.
fn kibibytes(meminfo: &str, name: &str) -> u64 {
    let value = field(meminfo, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}

/// A file of `/proc` or `/sys`; empty where there is none.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_neither_idle_nor_busy() {
        let before = CpuTimes::parse("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n");
        let after = CpuTimes::parse("cpu  120 0 60 850 60 0 0 10 0 0\n");
        assert_eq!(after.minus(before), Shares { busy: 30.0, stolen: 10.0 });
        assert_eq!(after.minus(after), Shares { busy: 0.0, stolen: 0.0 });
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let meminfo = "MemTotal:       24000000 kB\nHugePages_Total:     640\nHugePages_Free: 12\n";
        assert_eq!(kibibytes(meminfo, "MemTotal"), 24_000_000);
        assert_eq!(kibibytes(meminfo, "HugePages_Total"), 640);
        assert_eq!(kibibytes(meminfo, "HugePages"), 0);
    }

    #[test]
    fn caches_have_readable_sizes() {
        for (told, text) in
            [("48K", "48 KiB"), ("2048K", "2 MiB"), ("1536K", "1536 KiB"), ("?", "?")]
        {
            assert_eq!(size(told), text);
        }
    }

    #[test]
    fn this_machine_tells_its_facts() {
        let machine = Machine::here();
        assert!(machine.tsc_ghz > 0.01, "{machine:?}");
        assert!(machine.memory_gib > 0, "{machine:?}");
        for (name, value) in machine.facts() {
            assert!(!value.is_empty() || name == "caches", "{name}");
        }
    }
}
