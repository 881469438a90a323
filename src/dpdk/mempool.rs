//! Pools of packet buffers.
//!
//! Buffers are large enough that a frame of the pool's MTU is always one segment. A pool is freed
//! when its last owner goes and all its buffers are back, and never otherwise.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use super::eal::Eal;
use super::error::{DpdkError, check_pointer};
use super::mbuf::Mbuf;
use super::sys;

use dataplane::nic::{Burst, Frame};

/// Ethernet header, two VLAN tags and FCS: what a device may write besides the MTU's bytes.
const FRAME_OVERHEAD: u16 = 14 + 2 * 4 + 4;
/// Some devices take no smaller buffers.
const SMALLEST_ROOM: u16 = 2048;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct PoolConfig {
    /// Unique in the process, at most 25 bytes.
    pub name: String,
    /// Number of buffers. Receive and transmit rings and the threads' caches all hold some.
    pub mbufs: u32,
    /// Buffers each registered thread keeps for itself, at most 512 and two thirds of all.
    pub cache: u32,
    /// Largest MTU of the ports that receive into this pool, in bytes.
    pub mtu: u16,
    /// NUMA node of the memory; any when unknown.
    pub socket: Option<i32>,
}

/// A pool of packet buffers, usable from every thread.
#[derive(Debug)]
pub struct Mempool {
    raw: NonNull<sys::rte_mempool>,
    config: PoolConfig,
    eal: Option<Eal>,
}

// SAFETY: DPDK's pools are made for use by many threads at once; nothing here is thread-local.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

impl Mempool {
    /// Allocates all buffers of the pool.
    ///
    /// # Errors
    /// Not enough memory, a name that is taken or too long, a cache that is too large.
    pub fn create(eal: &Eal, config: PoolConfig) -> Result<Arc<Self>, DpdkError> {
        let name = CString::new(config.name.as_str())
            .map_err(|_| DpdkError::NulByte { what: "pool name", value: config.name.clone() })?;
        let operation = format!("make pool {} of {} packet buffers", config.name, config.mbufs);
        let room = data_room(config.mtu);
        let socket = config.socket.unwrap_or(-1);
        let raw = check_pointer(operation, || {
            // SAFETY: EAL is initialised and the name is a terminated string that C copies.
            unsafe {
                sys::rte_pktmbuf_pool_create(
                    name.as_ptr(),
                    config.mbufs,
                    config.cache,
                    0,
                    room,
                    socket,
                )
            }
        })?;
        Ok(Arc::new(Self { raw, config, eal: Some(eal.clone()) }))
    }

    /// A new packet of these bytes; `None` when the pool is empty or `bytes` exceeds a buffer. Off the
    /// packet path, from any thread.
    #[must_use]
    pub fn frame(&self, bytes: &[u8]) -> Option<Mbuf> {
        // SAFETY: the pool is alive; the result is null or a buffer that is ours alone.
        let raw = NonNull::new(unsafe { sys::vipgate_alloc(self.raw.as_ptr()) })?;
        // SAFETY: `raw` was just allocated, and nobody else has it.
        let mut frame = unsafe { Mbuf::from_raw(raw) };
        if !frame.set_len(bytes.len()) {
            return None;
        }
        frame.bytes_mut().copy_from_slice(bytes);
        Some(frame)
    }

    /// Puts `count` new packets of unspecified content and no length behind those of a burst: one foreign
    /// call, for generators. `false`, and no change, when the burst or the pool has no room for all of them.
    #[must_use]
    pub fn fill(&self, burst: &mut Burst<Mbuf>, count: usize) -> bool {
        let held = burst.len();
        let Ok(wanted) = u16::try_from(count) else { return false };
        if count > burst.remaining_capacity() {
            return false;
        }
        // SAFETY: `held` is at most the capacity of the array.
        let free = unsafe { burst.as_mut_ptr().add(held) };
        // SAFETY: the pool is alive and `free` has room for `count` pointers.
        if unsafe { sys::vipgate_alloc_bulk(self.raw.as_ptr(), free.cast(), wanted) } != 0 {
            return false;
        }
        // SAFETY: C has written `count` pointers to packets that are ours alone, behind the held ones.
        unsafe { burst.set_len(held + count) };
        true
    }

    /// Buffers that are free, those in threads' caches included. Walks all caches: for control only.
    #[must_use]
    pub fn available(&self) -> u32 {
        // SAFETY: the pool is alive; the function only reads counters.
        unsafe { sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Buffers that somebody holds: frames, and the rings of started ports. A moment's estimate
    /// while other threads allocate and free.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.config.mbufs.saturating_sub(self.available())
    }

    /// Whether no buffer is missing.
    #[must_use]
    pub fn all_back(&self) -> bool {
        self.in_use() == 0
    }

    /// Number of buffers.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.config.mbufs
    }

    /// The name it was made with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The largest MTU whose frames fit one buffer, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        data_room(self.config.mtu) - sys::VIPGATE_HEADROOM - FRAME_OVERHEAD
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Drop for Mempool {
    /// Frees the pool, or leaves it and EAL allocated for ever when buffers are missing: their owners
    /// may still read and free them. The count is exact, because the last owner goes after the
    /// workers were joined and the ports closed.
    fn drop(&mut self) {
        let missing = self.in_use();
        if missing > 0 {
            tracing::error!(target: "dpdk", pool = self.name(), missing, "packet buffers leaked");
            std::mem::forget(self.eal.take());
            return;
        }
        // SAFETY: all buffers are back and no port receives into the pool: ports own their pool.
        unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
    }
}

/// Bytes of one buffer, headroom included, a multiple of a cache line.
fn data_room(mtu: u16) -> u16 {
    let frame = mtu.saturating_add(FRAME_OVERHEAD).max(SMALLEST_ROOM);
    let room = frame.saturating_add(sys::VIPGATE_HEADROOM);
    room.checked_next_multiple_of(64).unwrap_or(u16::MAX - 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_hold_a_frame_of_the_mtu_in_one_segment() {
        assert_eq!(data_room(1500), 2048 + 128);
        assert!(data_room(9000) >= 9000 + FRAME_OVERHEAD + 128);
        assert_eq!(data_room(u16::MAX) % 64, 0);
    }
}
