//! One worker's receive and transmit queue of one port: the real [`Nic`].
//!
//! One foreign call per burst and direction. `Mbuf` is a transparent non-null pointer, so the array
//! inside a burst is the array of pointers that C fills and reads; nothing is converted per packet.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use dataplane::nic::{BURST, Burst, Nic};

use super::device::Device;
use super::mbuf::Mbuf;
use super::sys;

const _: () = assert!(BURST <= u16::MAX as usize && size_of::<Mbuf>() == size_of::<*mut u8>());

/// A queue pair of a started port. It can move to the thread that uses it, and cannot be shared.
#[derive(Debug)]
pub struct QueuePair {
    port: u16,
    queue: u16,
    device: Arc<Device>,
    _one_thread: PhantomData<Cell<()>>,
}

impl QueuePair {
    /// The caller makes one pair per queue, and keeps the port started while it exists.
    pub(super) fn new(device: Arc<Device>, queue: u16) -> Self {
        Self { port: device.id(), queue, device, _one_thread: PhantomData }
    }

    /// The name of the port.
    #[must_use]
    pub fn port(&self) -> &str {
        self.device.name()
    }

    /// The queue's number, from 0.
    #[must_use]
    pub fn queue(&self) -> u16 {
        self.queue
    }
}

impl Nic for QueuePair {
    type Frame = Mbuf;

    fn receive(&mut self, burst: &mut Burst<Mbuf>) {
        let held = burst.len();
        let room = count(burst.remaining_capacity());
        // SAFETY: `held` is at most the capacity of the array.
        let free = unsafe { burst.as_mut_ptr().add(held) };
        // SAFETY: `free` has room for `room` pointers; the port is started, the queue is this thread's,
        // and every pointer written is a packet that becomes ours.
        let received = unsafe { sys::vipgate_rx_burst(self.port, self.queue, free.cast(), room) };
        // SAFETY: C has written `received <= room` packets behind the held ones.
        unsafe { burst.set_len(held + usize::from(received)) };
    }

    fn transmit(&mut self, burst: &mut Burst<Mbuf>) {
        let held = burst.len();
        let frames = burst.as_mut_ptr();
        // SAFETY: `frames` begins `held` packets; the port is started and the queue this thread's.
        let sent =
            unsafe { sys::vipgate_tx_burst(self.port, self.queue, frames.cast(), count(held)) };
        let kept = held - usize::from(sent);
        // SAFETY: the first `sent <= held` packets belong to the device now: forgotten here at once,
        // before anything can drop them.
        unsafe { burst.set_len(kept) };
        if kept > 0 {
            let frames = burst.as_mut_ptr();
            // SAFETY: `sent` packets are in front of the kept ones.
            let unsent = unsafe { frames.add(usize::from(sent)) };
            // SAFETY: moves `kept` pointers to the front of the same array; they may overlap.
            unsafe { ptr::copy(unsent, frames, kept) };
        }
    }

    fn recycle(&mut self, burst: &mut Burst<Mbuf>) {
        let held = burst.len();
        // SAFETY: the packets are forgotten here and freed below, once.
        unsafe { burst.set_len(0) };
        // SAFETY: the array still holds `held` packets that are ours.
        unsafe {
            sys::rte_pktmbuf_free_bulk(burst.as_mut_ptr().cast(), u32::from(count(held)));
        }
    }
}

/// A number of frames in a burst, which [`BURST`] bounds.
fn count(frames: usize) -> u16 {
    u16::try_from(frames).unwrap_or(u16::MAX)
}
