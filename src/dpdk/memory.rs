//! Zeroed memory from DPDK's pages, for tables that packets look up at random.

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;

use super::eal::Eal;
use super::error::{DpdkError, check_pointer};
use super::sys;

const CACHE_LINE: u32 = 64;

/// Zeroed bytes, aligned to a cache line, contiguous, in huge pages when EAL has them.
#[derive(Debug)]
pub struct HugeMemory {
    start: NonNull<u8>,
    len: usize,
    _eal: Eal,
}

// SAFETY: plain memory with one owner, freed by whichever thread drops it.
unsafe impl Send for HugeMemory {}
// SAFETY: shared access is read access.
unsafe impl Sync for HugeMemory {}

impl HugeMemory {
    /// Allocates `len` bytes on NUMA node `socket`, or on any.
    ///
    /// # Errors
    /// Not enough of DPDK's memory in one piece, or `len` is zero.
    pub fn allocate(eal: &Eal, len: usize, socket: Option<i32>) -> Result<Self, DpdkError> {
        let operation = format!("allocate {} MiB of table memory", len.div_ceil(1 << 20));
        let start = check_pointer(operation, || {
            // SAFETY: EAL is initialised; the name is a terminated string.
            unsafe {
                sys::rte_zmalloc_socket(c"table".as_ptr(), len, CACHE_LINE, socket.unwrap_or(-1))
            }
        })?;
        Ok(Self { start: start.cast(), len, _eal: eal.clone() })
    }

    /// The memory for the rest of the process. EAL then stays up until the process ends, which leaves
    /// nothing behind: its pages have no name in the file system.
    #[must_use]
    pub fn leak(self) -> &'static mut [u8] {
        let memory = std::mem::ManuallyDrop::new(self);
        // SAFETY: allocated and zeroed with this length; never freed from here on, for `memory` and the
        // EAL handle in it are not dropped.
        unsafe { slice::from_raw_parts_mut(memory.start.as_ptr(), memory.len) }
    }
}

impl Deref for HugeMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: allocated and zeroed with this length, freed only by drop.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for HugeMemory {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for HugeMemory {
    fn drop(&mut self) {
        // SAFETY: came from DPDK's allocator, and nobody has it any more.
        unsafe { sys::rte_free(self.start.as_ptr().cast()) };
    }
}
