//! The seam between the packet engine and whatever moves frames.
//!
//! Job: say what the engine needs of a NIC queue ([`Nic`]) and of a received frame ([`Frame`]), and nothing more.
//! Invariants: a frame has exactly one owner; dropping a `Frame` gives its buffer back, but workers never rely on
//! that per packet: they collect finished frames and hand them to [`Nic::recycle`] once per burst.
//! Not known here: DPDK. The process implements these traits over mbufs, [`memory`] over plain vectors.

pub mod memory;

use arrayvec::ArrayVec;

/// Frames moved by one receive or transmit call.
pub const BURST: usize = 32;

/// Up to [`BURST`] frames, on the stack.
pub type Burst<F> = ArrayVec<F, BURST>;

/// An owned Ethernet frame in one contiguous buffer, without FCS.
pub trait Frame: Send + Sized {
    /// The frame's bytes, first byte of the destination MAC first.
    fn bytes(&self) -> &[u8];

    /// The frame's bytes, writable.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Prepends `len` bytes of unspecified content; `false` (and no change) when the headroom is too small.
    #[must_use]
    fn grow_front(&mut self, len: usize) -> bool;

    /// Cuts or extends the frame at its end to `len` bytes; new bytes are unspecified.
    /// `false` (and no change) when the buffer is too small.
    #[must_use]
    fn set_len(&mut self, len: usize) -> bool;

    /// Whether [`Frame::bytes`] is the whole frame. A frame in several segments is dropped by name.
    fn is_contiguous(&self) -> bool {
        true
    }

    /// Asks the CPU to load the first header bytes; a hint, nothing else.
    fn prefetch(&self) {}

    /// Asks the CPU to load what [`Frame::prefetch`] reads, for a frame that another core has written.
    fn prefetch_handle(&self) {}
}

/// One receive and one transmit queue of one port, used by one worker.
pub trait Nic: Send {
    /// What this queue receives and sends.
    type Frame: Frame;

    /// Appends received frames to `burst` until it is full or nothing waits. Never blocks.
    fn receive(&mut self, burst: &mut Burst<Self::Frame>);

    /// Sends from the front of `burst`. What the queue does not take stays in `burst`, in order.
    fn transmit(&mut self, burst: &mut Burst<Self::Frame>);

    /// Gives the buffers of all frames back, in one call, and leaves `burst` empty.
    fn recycle(&mut self, burst: &mut Burst<Self::Frame>);
}
