//! Later fragments that came before the first one of their packet: held, in their buffers, until it comes.
//!
//! Invariants: bounded in number, and with it in bytes, since buffers are of one size. Of too many the oldest makes room,
//! so that a flood costs honest fragments no more than the time in which it fills the room. None waits for longer than a
//! first fragment would be remembered.

use std::collections::VecDeque;

use crate::clock::Moment;
use crate::engine::Arrival;
use crate::fragments::LIFE_MILLIS;

/// Fragments a worker holds at a time: five of the largest datagrams in packets of 1500 bytes, whose first fragment comes
/// last. So many packet buffers must be there for it.
pub const HELD: usize = 256;

/// Fragments without their first one, oldest first.
#[derive(Debug)]
pub struct Held<F> {
    waiting: VecDeque<Waiting<F>>,
}

#[derive(Debug)]
struct Waiting<F> {
    /// See [`crate::fragments::Fragments::name`].
    packet: u64,
    frame: F,
    arrival: Arrival,
    until: Moment,
}

impl<F> Default for Held<F> {
    fn default() -> Self {
        Self { waiting: VecDeque::with_capacity(HELD) }
    }
}

impl<F> Held<F> {
    /// Fragments held now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Holds a fragment of `packet`. Without room, the oldest comes back.
    #[must_use]
    pub fn add(&mut self, packet: u64, frame: F, arrival: Arrival, now: Moment) -> Option<F> {
        let oldest = if self.len() < HELD { None } else { self.waiting.pop_front() };
        self.waiting.push_back(Waiting { packet, frame, arrival, until: now.after(LIFE_MILLIS) });
        oldest.map(|waiting| waiting.frame)
    }

    /// How many of `packet` are held.
    #[must_use]
    pub fn count(&self, packet: u64) -> usize {
        self.waiting.iter().filter(|waiting| waiting.packet == packet).count()
    }

    /// The one of `packet` that has waited for longest.
    pub fn release(&mut self, packet: u64) -> Option<(F, Arrival)> {
        let at = self.waiting.iter().position(|waiting| waiting.packet == packet)?;
        let Waiting { frame, arrival, .. } = self.waiting.remove(at)?;
        Some((frame, arrival))
    }

    /// One that has waited for too long.
    pub fn expired(&mut self, now: Moment) -> Option<F> {
        if self.waiting.front()?.until > now {
            return None;
        }
        self.waiting.pop_front().map(|waiting| waiting.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Origin;

    const ARRIVAL: Arrival = Arrival { port: 0, origin: Origin::Wire, fragment_ports: None };

    #[test]
    fn fragments_of_a_packet_are_released_in_the_order_in_which_they_came() {
        let mut held = Held::default();
        for (packet, frame) in [(1, 'a'), (2, 'b'), (1, 'c'), (2, 'd'), (1, 'e')] {
            assert_eq!(held.add(packet, frame, ARRIVAL, Moment(0)), None);
        }
        let mut release = |packet| -> String {
            (0..held.count(packet))
                .filter_map(|_| held.release(packet))
                .map(|(frame, _)| frame)
                .collect()
        };
        assert_eq!(release(1), "ace");
        assert_eq!(release(3), "");
        assert_eq!(release(2), "bd");
        assert!(held.is_empty());
    }

    #[test]
    fn the_oldest_makes_room_and_none_waits_for_ever() {
        let mut held = Held::default();
        for frame in 0..HELD {
            assert_eq!(held.add(0, frame, ARRIVAL, Moment(frame as u64)), None);
        }
        assert_eq!(held.add(0, HELD, ARRIVAL, Moment(HELD as u64)), Some(0));
        assert_eq!(held.len(), HELD);
        assert_eq!(held.expired(Moment(LIFE_MILLIS)), None);
        assert_eq!(held.expired(Moment(LIFE_MILLIS + 1)), Some(1));
        assert_eq!(held.expired(Moment(LIFE_MILLIS + 1)), None);
    }
}
