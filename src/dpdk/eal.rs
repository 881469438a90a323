//! The Environment Abstraction Layer: DPDK's start, its threads, its end.
//!
//! EAL is told to use a single lcore, the thread that initialises it, and gets no say over threads
//! otherwise: that thread's CPU affinity is put back, workers are ordinary threads that register.
//! It runs without shared files: nothing of it is left in the file system, even after a crash.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_int};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::config::EalConfig;
use super::error::{DpdkError, check};
use super::{log, sys};

/// A handle of the initialised library. DPDK is shut down when the last handle is gone.
#[derive(Clone, Debug)]
pub struct Eal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    start_log: Vec<String>,
    open_ports: Mutex<BTreeSet<u16>>,
}

/// DPDK keeps its state in globals and cannot be initialised again, even after clean-up or failure.
static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK and probes the devices of `config`. The calling thread becomes lcore 0.
    ///
    /// # Errors
    /// The second call in a process, and whatever keeps EAL from starting: missing huge pages,
    /// permissions, malformed device arguments. A device that cannot be probed is no error here;
    /// [`super::Port::open`] reports it with its reason.
    pub fn init(config: &EalConfig) -> Result<Self, DpdkError> {
        let here = Pid::from_raw(0);
        let affinity = sched_getaffinity(here).unwrap_or_default();
        let mut arguments = c_strings(config.arguments(first_cpu(&affinity)))?;
        if INITIALISED.swap(true, Ordering::SeqCst) {
            return Err(DpdkError::AlreadyInitialised);
        }
        log::capture()?;
        let (result, start_log) = log::recording(|| start(&mut arguments));
        // EAL pinned this thread to its main lcore's CPU.
        if let Err(error) = sched_setaffinity(here, &affinity) {
            tracing::warn!(target: "dpdk", %error, "cannot restore the thread's CPU affinity");
        }
        remove_runtime_directory();
        result?;
        Ok(Self { inner: Arc::new(Inner { start_log, open_ports: Mutex::default() }) })
    }

    /// Makes the calling thread an lcore, with a buffer cache in every pool, until the guard is
    /// dropped. Pin the thread before: DPDK remembers where it ran.
    ///
    /// # Errors
    /// The thread is an lcore already, or all of DPDK's lcores (128 by default) are taken.
    pub fn register_thread(&self) -> Result<RegisteredThread, DpdkError> {
        let lcore = current_lcore();
        if lcore != sys::VIPGATE_LCORE_ANY {
            return Err(DpdkError::ThreadRegistered { lcore });
        }
        // SAFETY: EAL is initialised, as `self` proves, and the thread is no lcore yet.
        check("register a thread as lcore", || unsafe { sys::rte_thread_register() })?;
        Ok(RegisteredThread { lcore: current_lcore(), _eal: self.clone(), _pinned: PhantomData })
    }

    /// Cycles of [`cycles`] per second.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        // SAFETY: reads a global that EAL's start has set.
        unsafe { sys::rte_get_tsc_hz() }
    }

    /// The names of all ports that drivers brought up and nobody closed.
    #[must_use]
    pub fn ports(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut id = 0;
        loop {
            // SAFETY: any number is a valid start; the search ends with RTE_MAX_ETHPORTS.
            id = unsafe { sys::rte_eth_find_next(id) };
            if u32::from(id) >= sys::VIPGATE_MAX_PORTS {
                return names;
            }
            let mut name = [0; sys::VIPGATE_PORT_NAME_SIZE as usize];
            // SAFETY: the buffer has the size that C fills at most.
            if unsafe { sys::rte_eth_dev_get_name_by_port(id, name.as_mut_ptr()) } == 0 {
                // SAFETY: the call above succeeded and wrote a terminated string.
                let name = unsafe { CStr::from_ptr(name.as_ptr()) };
                names.push(name.to_string_lossy().into_owned());
            }
            id += 1;
        }
    }

    /// The errors of EAL's start, where the reason is said why a device is missing. Drivers do not
    /// always name their device, so it is all of them.
    pub(super) fn start_log(&self) -> Vec<String> {
        self.inner.start_log.clone()
    }

    /// Takes the one right to a port; `false` when it is taken.
    pub(super) fn claim_port(&self, id: u16) -> bool {
        self.inner.open_ports.lock().is_ok_and(|mut open| open.insert(id))
    }

    pub(super) fn release_port(&self, id: u16) {
        if let Ok(mut open) = self.inner.open_ports.lock() {
            open.remove(&id);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: every port, pool and memory area holds a handle, so none is left to be used.
        let result = unsafe { sys::rte_eal_cleanup() };
        if result != 0 {
            tracing::warn!(target: "dpdk", code = result, "DPDK's clean-up failed");
        }
    }
}

/// A thread that is an lcore; dropped on that thread, which is then none any more.
#[derive(Debug)]
pub struct RegisteredThread {
    lcore: u32,
    _eal: Eal,
    /// The registration is thread-local: the guard must not be sent away.
    _pinned: PhantomData<*const ()>,
}

impl RegisteredThread {
    /// The thread's lcore number: unique among the registered threads of the moment.
    #[must_use]
    pub fn lcore(&self) -> u32 {
        self.lcore
    }
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        // SAFETY: this thread was registered by the constructor and EAL is still up.
        unsafe { sys::rte_thread_unregister() };
    }
}

/// The CPU's time stamp counter: one cheap call, for accounting per burst.
#[must_use]
pub fn cycles() -> u64 {
    // SAFETY: reads a counter.
    unsafe { sys::vipgate_cycles() }
}

fn current_lcore() -> u32 {
    // SAFETY: reads a thread-local integer.
    unsafe { sys::vipgate_lcore() }
}

fn start(arguments: &mut [CString]) -> Result<(), DpdkError> {
    // EAL permutes the pointers and may write into the strings, never beyond them.
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(c_int::MAX);
    pointers.push(std::ptr::null_mut());
    check("initialise DPDK", || {
        // SAFETY: `pointers` holds `count` terminated strings and a null, as of a C main function;
        // `INITIALISED` makes this the only call of the process.
        unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) }
    })?;
    Ok(())
}

/// EAL makes a directory for files it shares with other processes, and with what we ask of it puts
/// nothing inside. Only an empty directory is removed.
fn remove_runtime_directory() {
    // SAFETY: returns the address of a global.
    let path = unsafe { sys::rte_eal_get_runtime_dir() };
    // SAFETY: it is a terminated string, empty before EAL named the directory.
    let path = unsafe { CStr::from_ptr(path) };
    let path = PathBuf::from(path.to_string_lossy().into_owned());
    drop(std::fs::remove_dir(path));
}

fn first_cpu(affinity: &CpuSet) -> usize {
    (0..CpuSet::count()).find(|&cpu| affinity.is_set(cpu).unwrap_or(false)).unwrap_or(0)
}

fn c_strings(arguments: Vec<String>) -> Result<Vec<CString>, DpdkError> {
    arguments
        .into_iter()
        .map(|value| {
            CString::new(value.as_str())
                .map_err(|_| DpdkError::NulByte { what: "EAL argument", value })
        })
        .collect()
}
