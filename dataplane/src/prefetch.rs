//! The engine's only unsafe code: asking the CPU for a cache line ahead of use.

/// Hints that `value`, of no more than a line, will be read soon, even if it lies in two lines.
#[inline]
pub fn prefetch_whole<T>(value: &T) {
    let first = std::ptr::from_ref(value).cast::<u8>();
    prefetch_at(first);
    prefetch_at(first.wrapping_add(size_of::<T>().saturating_sub(1)));
}

/// Hints that the line of `value` will be read soon.
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast());
}

/// Never faults, never changes anything.
#[inline]
#[allow(unsafe_code, reason = "a prefetch has no safe form in the standard library")]
fn prefetch_at(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it neither faults nor writes, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    // Without an intrinsic in the stable standard library.
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: likewise; the instruction changes no register, flag or memory.
        unsafe {
            core::arch::asm!(
                "prfm pldl1keep, [{line}]",
                line = in(reg) line,
                options(readonly, nostack, preserves_flags)
            );
        };
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = line;
}
