//! What a run needs of the machine, taken at its start and given back at its end, however it ends: a folder, huge
//! pages, a network namespace, cores, and the generator's ports.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dataplane::fib::Mac;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;
use vipgate::dpdk::{
    DpdkError, Eal, EalConfig, Memory, Mempool, PoolConfig, Port, PortConfig, QueuePair,
};

use super::super::Error;

const PAGES: &str = "/proc/sys/vm/nr_hugepages";
const FREE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
/// Memory of the generator, and its packet buffers: both rings of a link, and what is on its way.
pub(super) const MIB: u32 = 128;
const BUFFERS: u32 = 16_383;
/// How long a device may take to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A folder for the run, and the huge pages that were reserved for it. Both go when this is dropped, or when the process
/// ends, however it does: a child that waits for the end of its input sees to it.
#[derive(Debug)]
pub(super) struct Belongings {
    folder: PathBuf,
    janitor: Child,
}

impl Belongings {
    /// Makes the folder and sees to it that `mib` of huge pages are free.
    pub(super) fn take(mib: u32) -> Result<Self, Error> {
        let folder = std::env::temp_dir().join(format!("vipgate-perf-wire.{}", std::process::id()));
        let wanted = u64::from(mib.div_ceil(2));
        let more = wanted.saturating_sub(number(FREE_PAGES));
        let janitor = hire(&folder, more);
        let janitor = janitor.map_err(|error| Error(format!("cannot run `sh`: {error}")))?;
        let belongings = Self { folder, janitor };
        let made = fs::create_dir(&belongings.folder);
        made.map_err(|error| Error(format!("{}: {error}", belongings.folder.display())))?;
        if more > 0 {
            // The kernel takes what it gets; whether that is enough is seen below.
            let _ = fs::write(PAGES, (number(PAGES) + more).to_string());
        }
        let free = number(FREE_PAGES);
        if free < wanted {
            let all = number(PAGES) + wanted - free;
            return Err(Error(format!(
                "{wanted} huge pages of 2 MiB are needed and {free} are free: write {all} to {PAGES} as root, best \
                 right after the machine's start, or take fewer --connections"
            )));
        }
        Ok(belongings)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Belongings {
    fn drop(&mut self) {
        drop(self.janitor.stdin.take());
        let _ = self.janitor.wait();
    }
}

/// Pages that others use by then stay until they are given back.
fn hire(folder: &Path, pages: u64) -> std::io::Result<Child> {
    const SCRIPT: &str = "cat > /dev/null
rm -rf -- \"$0\"
[ \"$1\" = 0 ] || echo $(($(cat \"$2\") - $1)) > \"$2\"";
    Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(folder)
        .args([&pages.to_string(), PAGES])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The terminal's Ctrl-C is not for it.
        .process_group(0)
        .spawn()
}

fn number(file: &str) -> u64 {
    fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Enters a network namespace of our own, in which everything started from here on is: vipgate's kernel twins, its
/// routes, its HTTP port.
pub(super) fn enter_namespace() -> Result<(), Error> {
    if !Uid::effective().is_root() {
        return Err(Error("needs a network namespace and huge pages: run it as root".into()));
    }
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
        Error(format!("cannot make a network namespace ({error}): allow CAP_SYS_ADMIN"))
    })?;
    let ip = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    match ip {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Error(format!("`ip link set lo up` ended with {status}"))),
        Err(error) => Err(Error(format!("cannot run `ip` ({error}): install iproute2"))),
    }
}

/// The generator's end of the wires.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) eal: Eal,
    pub(super) pool: Arc<Mempool>,
    ports: Vec<Port>,
}

impl Ports {
    /// Starts DPDK with a vhost-user server for each of these sockets, and hands out their queues.
    pub(super) fn open(sockets: &[PathBuf], core: usize) -> Result<(Self, Vec<QueuePair>), Error> {
        Self::open_all(sockets, core).map_err(said)
    }

    fn open_all(sockets: &[PathBuf], core: usize) -> Result<(Self, Vec<QueuePair>), DpdkError> {
        let vdevs = sockets.iter().enumerate().map(|(number, socket)| {
            format!("{},iface={},queues=1,tso=0", name(number), socket.display())
        });
        let eal = Eal::init(&EalConfig {
            memory: Memory::Huge { mib: Some(MIB) },
            file_prefix: Some(format!("perf-{}", std::process::id())),
            vdevs: vdevs.collect(),
            main_core: Some(core),
            ..EalConfig::default()
        })?;
        let pool = PoolConfig {
            name: "packets".into(),
            mbufs: BUFFERS,
            cache: 512,
            mtu: 1500,
            socket: None,
        };
        let pool = Mempool::create(&eal, pool)?;
        let (mut ports, mut queues) = (Vec::new(), Vec::new());
        for number in 0..sockets.len() {
            let mut port = Port::open(&eal, &name(number))?;
            // The rings are the device's: their sizes are its business.
            port.configure(&PortConfig::default(), &pool)?;
            queues.extend(port.start()?);
            ports.push(port);
        }
        Ok((Self { eal, pool, ports }, queues))
    }

    pub(super) fn mac(&self, number: usize) -> Result<Mac, Error> {
        self.ports[number].mac().map_err(said)
    }

    /// Waits until every device has connected.
    pub(super) fn wait_for_links(&self) -> Result<(), Error> {
        let begin = Instant::now();
        let up = |port: &Port| port.link().is_ok_and(|link| link.up);
        while !self.ports.iter().all(up) {
            if begin.elapsed() > CONNECT {
                return Err(Error("a device did not connect to its vhost-user socket".into()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Gives everything back, after all queues are gone. An error when a packet buffer is missing.
    pub(super) fn close(mut self) -> Result<(), Error> {
        for port in &mut self.ports {
            port.stop().map_err(said)?;
        }
        self.ports.clear();
        match self.pool.in_use() {
            0 => Ok(()),
            missing => Err(Error(format!("{missing} packet buffers of the generator are missing"))),
        }
    }
}

fn said(error: DpdkError) -> Error {
    Error(error.to_string())
}

fn name(number: usize) -> String {
    format!("net_vhost{number}")
}
