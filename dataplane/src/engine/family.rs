//! What is done to ordinary packets of either family, each in its own way.

use super::newcomers::{Foreseen, Way};
use crate::conntrack::Tabled;
use crate::conntrack::key::{KeyV4, KeyV6};
use crate::fib::{Fib, Hop};
use crate::rewrite;

/// The flow of an ordinary packet.
pub(super) trait Family: Tabled {
    /// Whether this is IPv4.
    const V4: bool;
    /// What is noted of a newcomer.
    fn foreseen(way: Way<Self>) -> Foreseen;
    /// The way to its destination.
    fn hop<'t>(&self, fib: &'t Fib) -> &'t Hop;
    /// Rewrites a packet of this flow to another.
    fn rewrite(&self, frame: &mut [u8], to: &Self, ethernet: &[u8; 12]) -> Option<()>;
    /// Sends a packet one hop on as it is.
    fn pass_on(frame: &mut [u8], ethernet: &[u8; 12]) -> Option<()>;
}

impl Family for KeyV4 {
    const V4: bool = true;

    #[inline]
    fn foreseen(way: Way<Self>) -> Foreseen {
        Foreseen::V4(way)
    }

    #[inline]
    fn hop<'t>(&self, fib: &'t Fib) -> &'t Hop {
        fib.hop_v4(self)
    }

    #[inline]
    fn rewrite(&self, frame: &mut [u8], to: &Self, ethernet: &[u8; 12]) -> Option<()> {
        rewrite::ordinary_v4(frame, self, to, ethernet)
    }

    #[inline]
    fn pass_on(frame: &mut [u8], ethernet: &[u8; 12]) -> Option<()> {
        rewrite::hop_v4(frame, ethernet)
    }
}

impl Family for KeyV6 {
    const V4: bool = false;

    #[inline]
    fn foreseen(way: Way<Self>) -> Foreseen {
        Foreseen::V6(way)
    }

    #[inline]
    fn hop<'t>(&self, fib: &'t Fib) -> &'t Hop {
        fib.hop_v6(self)
    }

    #[inline]
    fn rewrite(&self, frame: &mut [u8], to: &Self, ethernet: &[u8; 12]) -> Option<()> {
        rewrite::ordinary_v6(frame, self, to, ethernet)
    }

    #[inline]
    fn pass_on(frame: &mut [u8], ethernet: &[u8; 12]) -> Option<()> {
        rewrite::hop_v6(frame, ethernet)
    }
}
