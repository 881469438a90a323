//! ARP: the gateway looks for its next hops, and finds all of them at the generator's port.

use dataplane::answer;
use dataplane::fib::Mac;
use dataplane::wire::{self, Parsed, ethernet, word};

use super::frames::{BACKENDS, FIRST_BACKEND, ROUTER};

/// Turns a frame that asks for one of our addresses into the answer; false when it is something else.
pub(super) fn answer(frame: &mut [u8], mac: Mac) -> bool {
    let Ok(Parsed::Arp { at }) = wire::parse(frame) else { return false };
    let target = u32::from_be_bytes(std::array::from_fn(|i| frame[at + 24 + i]));
    let first = FIRST_BACKEND.to_bits();
    let ours = target == ROUTER.to_bits() || (first..first + u32::from(BACKENDS)).contains(&target);
    let asked = ours && word(frame, at + 6) == ethernet::ARP_REQUEST;
    if asked {
        answer::arp(frame, at, mac);
    }
    asked
}
