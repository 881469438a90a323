//! Backend liveness by dense id and generation.
//!
//! A connection remembers a [`BackendId`]; a UDP packet asks on every turn whether that backend still serves, with two
//! dependent loads and no sweep over connections. Ids are reused oldest first, under the next generation.

use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes copied when one backend comes or goes; every table counts a reference to each of the chunks, 150 for a million.
const CHUNK: usize = 8192;
const GENERATION_BITS: u32 = 8;
const MAX_BACKENDS: usize = 1 << (u32::BITS - GENERATION_BITS);

/// An endpoint of a service row: index in the upper 24 bits, generation in the lower 8. Zero is nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendId(pub u32);

impl BackendId {
    /// No backend: a connection that is not a Service's.
    pub const NONE: Self = Self(0);

    fn new(index: usize, generation: u8) -> Self {
        let index = u32::try_from(index).expect("at most 2^24 backends");
        Self(index << GENERATION_BITS | u32::from(generation))
    }

    /// Its dense number, below 2^24.
    pub(crate) fn index(self) -> usize {
        (self.0 >> GENERATION_BITS) as usize
    }

    fn generation(self) -> u8 {
        self.0.to_be_bytes()[3]
    }
}

/// The current generation of every id; 0 means nobody has it.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    chunks: Vec<Arc<[u8; CHUNK]>>,
}

impl Backends {
    /// Whether the id is still the one that was handed out.
    #[must_use]
    #[inline]
    pub fn lives(&self, id: BackendId) -> bool {
        let chunk = self.chunks.get(id.index() / CHUNK);
        id != BackendId::NONE
            && chunk.is_some_and(|chunk| chunk[id.index() % CHUNK] == id.generation())
    }

    fn set(&mut self, index: usize, generation: u8) {
        while self.chunks.len() <= index / CHUNK {
            self.chunks.push(Arc::new([0; CHUNK]));
        }
        Arc::make_mut(&mut self.chunks[index / CHUNK])[index % CHUNK] = generation;
    }
}

/// Hands out ids. Lives with the writer on the control thread.
#[derive(Debug, Default)]
pub(super) struct BackendIds {
    // Index and the generation it was last used with; the longest free first.
    free: VecDeque<(usize, u8)>,
    next: usize,
}

impl BackendIds {
    /// A fresh id, alive from now on; `None` when 2^24 backends live.
    pub(super) fn take(&mut self, backends: &mut Backends) -> Option<BackendId> {
        let (index, last) = match self.free.pop_front() {
            Some(free) => free,
            None if self.next < MAX_BACKENDS => {
                self.next += 1;
                (self.next - 1, 0)
            }
            None => return None,
        };
        let generation = last.checked_add(1).unwrap_or(1);
        backends.set(index, generation);
        Some(BackendId::new(index, generation))
    }

    /// Ends a backend's life.
    pub(super) fn give_back(&mut self, id: BackendId, backends: &mut Backends) {
        backends.set(id.index(), 0);
        self.free.push_back((id.index(), id.generation()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_index_has_another_generation() {
        let (mut ids, mut backends) = (BackendIds::default(), Backends::default());
        let first = ids.take(&mut backends).expect("ids are free");
        let published = backends.clone();
        ids.give_back(first, &mut backends);
        assert!(published.lives(first), "a published clone must not change");
        assert!(!backends.lives(first));
        let second = ids.take(&mut backends).expect("ids are free");
        assert_eq!(first.index(), second.index());
        assert!(backends.lives(second) && !backends.lives(first));
    }

    #[test]
    fn nobody_never_lives() {
        assert!(!Backends::default().lives(BackendId::NONE));
    }

    #[test]
    fn generations_skip_zero_when_they_wrap() {
        let (mut ids, mut backends) = (BackendIds::default(), Backends::default());
        for _ in 0..600 {
            let id = ids.take(&mut backends).expect("ids are free");
            assert!(backends.lives(id) && id.generation() != 0);
            ids.give_back(id, &mut backends);
        }
    }
}
