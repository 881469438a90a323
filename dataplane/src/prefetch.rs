//! The engine's only unsafe code: asking the CPU for a cache line ahead of use.

/// Hints that the line of `value` will be read soon. Never faults, never changes anything.
#[inline]
#[allow(unsafe_code, reason = "a prefetch has no safe form in the standard library")]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it neither faults nor writes, whatever the address; this one is valid anyway.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    // Without an intrinsic in the stable standard library.
    #[cfg(target_arch = "aarch64")]
    {
        let line = std::ptr::from_ref(value);
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
    let _ = value;
}
