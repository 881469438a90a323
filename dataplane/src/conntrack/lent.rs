//! The addresses that gateways lend to clients (masquerade), under numbers: an IPv6 entry has room for three addresses.
//!
//! Two directions of a connection know four addresses: client, frontend, backend, and the one the client is seen at.
//! The fourth is the client's own or one of the few that masquerade lends, so a number in five bits names it.
//!
//! Invariant: a number means one address as long as an entry uses it. A number without entries keeps its address until
//! another address needs it, so that most connections find theirs at once.

/// The number of an address that is not lent.
pub(super) const OWN: u8 = 0;
/// Numbers there are, [`OWN`] included: five bits.
pub(super) const NUMBERS: usize = 32;
/// Addresses that can be lent at a time.
pub const ADDRESSES: usize = NUMBERS - 1;

/// The addresses lent by one worker now.
#[derive(Debug, Default)]
pub struct Lent {
    addresses: [[u64; 2]; NUMBERS],
    /// By number: entries that use it. A worker has at most 2^32 slots.
    entries: [u32; NUMBERS],
}

impl Lent {
    /// The address of a number.
    #[inline]
    pub(super) fn address(&self, number: u8) -> &[u64; 2] {
        &self.addresses[usize::from(number) % NUMBERS]
    }

    /// One more entry uses this address: its number. `None` when all numbers mean others.
    pub(super) fn hold(&mut self, address: [u64; 2]) -> Option<u8> {
        let known = (1..NUMBERS).find(|&number| self.addresses[number] == address);
        let number = known.or_else(|| (1..NUMBERS).find(|&number| self.entries[number] == 0))?;
        self.addresses[number] = address;
        self.entries[number] += 1;
        u8::try_from(number).ok()
    }

    /// One entry less uses this number.
    pub(super) fn release(&mut self, number: u8) {
        if number != OWN {
            self.entries[usize::from(number) % NUMBERS] -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_free_again_when_its_last_entry_is_gone() {
        let mut lent = Lent::default();
        let numbers: Vec<u8> =
            (0..ADDRESSES as u64).map(|i| lent.hold([i + 1, 7]).expect("one is free")).collect();
        assert_eq!(numbers, (1..=31).collect::<Vec<u8>>());
        assert_eq!(lent.hold([99, 7]), None);
        // A known address needs no further number.
        assert_eq!(lent.hold([3, 7]), Some(3));
        lent.release(3);
        assert_eq!(lent.hold([99, 7]), None, "still held once");
        lent.release(3);
        assert_eq!((lent.hold([99, 7]), lent.address(3)), (Some(3), &[99, 7]));
        assert_eq!(lent.hold([3, 7]), None);
    }

    #[test]
    fn an_unused_number_keeps_its_address_until_another_needs_it() {
        let mut lent = Lent::default();
        assert_eq!((lent.hold([1, 1]), lent.hold([2, 2])), (Some(1), Some(2)));
        lent.release(2);
        assert_eq!((*lent.address(2), lent.hold([2, 2])), ([2, 2], Some(2)));
        lent.release(OWN);
    }
}
