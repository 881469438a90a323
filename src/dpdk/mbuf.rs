//! One packet buffer, owned.
//!
//! The fields used per packet are read and written here, without a foreign call: [`Header`] is the part
//! of `rte_mbuf` that DPDK's vector drivers fix for all releases, checked against the headers below.
//! Invariant: drivers and pools hand out buffers with one reference, so an `Mbuf` is never shared.

use std::mem::offset_of;
use std::ptr::NonNull;
use std::slice;

use dataplane::nic::Frame;

use super::sys;

/// The start of `rte_mbuf`.
#[repr(C)]
struct Header {
    buf_addr: *mut u8,
    _buf_iova: u64,
    data_off: u16,
    refcnt: u16,
    nb_segs: u16,
    _port: u16,
    ol_flags: u64,
    _packet_type: u32,
    pkt_len: u32,
    data_len: u16,
    _vlan_tci: u16,
    _hash: [u32; 2],
    _vlan_tci_outer: u16,
    buf_len: u16,
}

const _: () = {
    assert!(offset_of!(Header, buf_addr) == sys::VIPGATE_MBUF_BUF_ADDR);
    assert!(offset_of!(Header, data_off) == sys::VIPGATE_MBUF_DATA_OFF);
    assert!(offset_of!(Header, refcnt) == sys::VIPGATE_MBUF_REFCNT);
    assert!(offset_of!(Header, nb_segs) == sys::VIPGATE_MBUF_NB_SEGS);
    assert!(offset_of!(Header, ol_flags) == sys::VIPGATE_MBUF_OL_FLAGS);
    assert!(offset_of!(Header, pkt_len) == sys::VIPGATE_MBUF_PKT_LEN);
    assert!(offset_of!(Header, data_len) == sys::VIPGATE_MBUF_DATA_LEN);
    assert!(offset_of!(Header, buf_len) == sys::VIPGATE_MBUF_BUF_LEN);
};

/// An owned packet. Its buffer goes back to its pool when the packet is dropped.
#[repr(transparent)]
#[derive(Debug)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

// SAFETY: a buffer may be freed by any thread, and has one owner.
unsafe impl Send for Mbuf {}

/// What a device says about a received checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxChecksum {
    /// The device did not look: verify in software, if at all.
    Unknown,
    /// Verified and right.
    Good,
    /// Verified and wrong.
    Bad,
    /// Not in the packet, and vouched for: a virtual peer left it to be filled in.
    Absent,
}

impl Mbuf {
    /// Takes ownership of a packet.
    ///
    /// # Safety
    /// `raw` is an allocated packet with one reference, which nobody else uses or frees.
    pub(super) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Self(raw)
    }

    /// What the receiving device says about the IPv4 header checksum.
    #[must_use]
    pub fn ip_checksum(&self) -> RxChecksum {
        match self.header().ol_flags & sys::VIPGATE_RX_IP_MASK {
            sys::VIPGATE_RX_IP_GOOD => RxChecksum::Good,
            sys::VIPGATE_RX_IP_BAD => RxChecksum::Bad,
            sys::VIPGATE_RX_IP_NONE => RxChecksum::Absent,
            _ => RxChecksum::Unknown,
        }
    }

    /// What the receiving device says about the TCP, UDP or SCTP checksum.
    #[must_use]
    pub fn l4_checksum(&self) -> RxChecksum {
        match self.header().ol_flags & sys::VIPGATE_RX_L4_MASK {
            sys::VIPGATE_RX_L4_GOOD => RxChecksum::Good,
            sys::VIPGATE_RX_L4_BAD => RxChecksum::Bad,
            sys::VIPGATE_RX_L4_NONE => RxChecksum::Absent,
            _ => RxChecksum::Unknown,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: the packet is allocated, starts with these fields, and is ours alone.
        let header: &Header = unsafe { self.0.cast().as_ref() };
        debug_assert_eq!(header.refcnt, 1, "a packet with two owners");
        header
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: as in `header`, and `self` is borrowed exclusively.
        unsafe { self.0.cast().as_mut() }
    }

    /// The first byte of the packet.
    fn data(&self) -> *mut u8 {
        let header = self.header();
        // SAFETY: `data_off` stays within the buffer that `buf_addr` begins.
        unsafe { header.buf_addr.add(usize::from(header.data_off)) }
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the packet is ours, and forgotten with `self`.
        unsafe { sys::vipgate_free(self.0.as_ptr()) };
    }
}

impl Frame for Mbuf {
    fn bytes(&self) -> &[u8] {
        // SAFETY: DPDK keeps `data_len` bytes behind the data pointer inside the buffer.
        unsafe { slice::from_raw_parts(self.data(), usize::from(self.header().data_len)) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.data(), usize::from(self.header().data_len)) }
    }

    fn grow_front(&mut self, len: usize) -> bool {
        let header = self.header_mut();
        let Ok(len) = u16::try_from(len) else { return false };
        let (Some(data_off), Some(data_len)) =
            (header.data_off.checked_sub(len), header.data_len.checked_add(len))
        else {
            return false;
        };
        header.data_off = data_off;
        header.data_len = data_len;
        header.pkt_len += u32::from(len);
        true
    }

    fn set_len(&mut self, len: usize) -> bool {
        let header = self.header_mut();
        let room = header.buf_len - header.data_off;
        match u16::try_from(len) {
            Ok(len) if len <= room && header.nb_segs == 1 => {
                header.data_len = len;
                header.pkt_len = u32::from(len);
                true
            }
            _ => false,
        }
    }

    fn is_contiguous(&self) -> bool {
        self.header().nb_segs == 1
    }

    fn prefetch(&self) {
        prefetch(self.data());
    }

    fn prefetch_handle(&self) {
        prefetch(self.0.as_ptr());
    }
}

/// Asks for the line at an address.
#[inline]
fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it does not access memory as the language sees it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
