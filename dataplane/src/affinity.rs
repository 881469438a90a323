//! ClientIP affinity: which backend a client of a Service port was given last (AFF). The one state that workers share:
//! two connections of a client may belong to two of them.
//!
//! Asked only when a connection to a Service with affinity is opened, and without a lock: a hash table of fixed size, a
//! word for each client. A word holds a part of a keyed hash of the client's address and the row, the backend's index,
//! and when the client last opened a connection.
//!
//! Invariants:
//! - The caller takes only backends of the list in use (AFF-4). A word that is misread (two hashes that look the same once
//!   in a million, an index that was given to another endpoint since) costs a client its backend or gives it another of
//!   the list, never one outside of it.
//! - Workers that meet a new client at the same moment agree on one backend: the slower one adopts the faster one's.
//! - A full bucket forgets the client that was silent for longest.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Moment;
use crate::flow::Address;
use crate::hash::{HashKey, high32, low32, reduce};
use crate::service::backends::BackendId;

/// Clients in a bucket: as many as a cache line holds.
const WAYS: usize = 8;
/// How often another worker may be faster before a connection does without affinity.
const TRIES: usize = 4;
/// Bits of a word: from the top a part of the hash, the backend's index, seconds.
const INDEX_BITS: u32 = 24;
const TIME_BITS: u32 = 20;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub struct Affinity {
    buckets: Box<[Bucket]>,
    key: HashKey,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; WAYS]);

/// What is asked: whose connection, to what, when.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// The client, before any translation (AFF-6).
    pub client: Address,
    /// The row's number: every way to reach it shares the answer (AFF-2).
    pub row: u32,
    /// Seconds from a client's last new connection for which it keeps its backend (AFF-3); at most a day (AFF-1).
    pub timeout: u32,
    /// Now.
    pub now: Moment,
}

impl Affinity {
    /// Room for about so many clients at a time; with 0 nothing is remembered. `key` is secret.
    #[must_use]
    pub fn new(clients: usize, key: HashKey) -> Self {
        Self { buckets: (0..clients.div_ceil(WAYS)).map(|_| Bucket::default()).collect(), key }
    }

    /// The backend that a client keeps from now on: the one it had lately, if `usable` knows it by its index, else
    /// `fresh`.
    pub fn choose<T: Copy>(
        &self,
        visit: &Visit,
        fresh: (T, BackendId),
        usable: impl Fn(usize) -> Option<(T, BackendId)>,
    ) -> (T, BackendId) {
        if self.buckets.is_empty() {
            return fresh;
        }
        let hash = self.key.pair(self.key.address(visit.client), u64::from(visit.row));
        let Bucket(words) = &self.buckets[reduce(high32(hash), self.buckets.len())];
        // Never 0, which is an empty word.
        let part = u64::from(low32(hash) >> (INDEX_BITS + TIME_BITS - u32::BITS) | 1);
        let now = low32(visit.now.secs()) & TIME_MASK;
        let word = |(_, id): (T, BackendId)| {
            part << (INDEX_BITS + TIME_BITS) | (id.index() as u64) << TIME_BITS | u64::from(now)
        };
        for _ in 0..TRIES {
            let known = words.each_ref().map(|word| word.load(Ordering::Relaxed));
            let mine = known.iter().position(|word| word >> (INDEX_BITS + TIME_BITS) == part);
            let place = mine.unwrap_or_else(|| oldest(&known, now));
            let kept = mine.filter(|_| age(known[place], now) < visit.timeout);
            let chosen = kept.and_then(|_| usable(index(known[place]))).unwrap_or(fresh);
            // Only the word itself is passed on, so that no order of anything else matters.
            let swap = words[place].compare_exchange(
                known[place],
                word(chosen),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if swap.is_ok() {
                return chosen;
            }
        }
        fresh
    }
}

/// The place of an empty word, or of the one whose client was silent for longest.
fn oldest(words: &[u64; WAYS], now: u32) -> usize {
    let age = |place: &usize| if words[*place] == 0 { u32::MAX } else { age(words[*place], now) };
    // The first of equals, so that workers that meet one client choose one place.
    (0..WAYS).rev().max_by_key(age).unwrap_or_default()
}

/// Seconds since a word was written. They come around after twelve days, when nobody will mind.
fn age(word: u64, now: u32) -> u32 {
    now.wrapping_sub(low32(word)) & TIME_MASK
}

fn index(word: u64) -> usize {
    (low32(word >> TIME_BITS) & ((1 << INDEX_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn id(index: u32) -> BackendId {
        BackendId(index << 8 | 1)
    }

    fn visit(client: u32, row: u32, secs: u64) -> Visit {
        let client = Address::v4(client.to_be_bytes());
        Visit { client, row, timeout: 100, now: Moment(secs * 1000) }
    }

    fn affinity(clients: usize) -> Affinity {
        Affinity::new(clients, HashKey::new(7))
    }

    /// What is chosen when `fresh` is offered and every backend below 1000 is usable.
    fn ask(affinity: &Affinity, visit: &Visit, fresh: u32) -> u32 {
        let usable = |index: usize| {
            let index = u32::try_from(index).ok().filter(|index| *index < 1000)?;
            Some((index, id(index)))
        };
        affinity.choose(visit, (fresh, id(fresh)), usable).0
    }

    #[test]
    fn aff_3_the_time_runs_from_the_last_new_connection() {
        let affinity = affinity(64);
        assert_eq!(ask(&affinity, &visit(1, 1, 0), 5), 5);
        assert_eq!(ask(&affinity, &visit(1, 1, 99), 6), 5, "kept");
        assert_eq!(ask(&affinity, &visit(1, 1, 198), 6), 5, "refreshed by the one before");
        assert_eq!(ask(&affinity, &visit(1, 1, 298), 6), 6, "over");
        assert_eq!(ask(&affinity, &visit(1, 1, 299), 7), 6);
    }

    #[test]
    fn aff_2_each_row_and_each_client_has_its_own() {
        let affinity = affinity(64);
        assert_eq!(ask(&affinity, &visit(1, 1, 0), 5), 5);
        assert_eq!(ask(&affinity, &visit(1, 2, 0), 6), 6);
        assert_eq!(ask(&affinity, &visit(2, 1, 0), 7), 7);
        assert_eq!(ask(&affinity, &visit(1, 1, 1), 9), 5);
    }

    #[test]
    fn aff_4_a_backend_that_can_not_be_used_is_forgotten() {
        let affinity = affinity(64);
        assert_eq!(ask(&affinity, &visit(1, 1, 0), 1001), 1001);
        assert_eq!(ask(&affinity, &visit(1, 1, 1), 6), 6);
        assert_eq!(ask(&affinity, &visit(1, 1, 2), 7), 6);
    }

    #[test]
    fn the_clock_may_come_around() {
        let affinity = affinity(64);
        let around = u64::from(TIME_MASK);
        assert_eq!(ask(&affinity, &visit(1, 1, around), 5), 5);
        assert_eq!(ask(&affinity, &visit(1, 1, around + 50), 6), 5);
        assert_eq!(ask(&affinity, &visit(1, 1, around + 150), 6), 6);
    }

    #[test]
    fn a_full_table_forgets_who_was_silent_for_longest() {
        let affinity = affinity(WAYS);
        for client in 0..8 {
            assert_eq!(ask(&affinity, &visit(client, 1, client.into()), client), client);
        }
        assert_eq!(ask(&affinity, &visit(0, 1, 10), 99), 0, "refreshed");
        assert_eq!(ask(&affinity, &visit(50, 1, 11), 50), 50, "takes the place of 1");
        assert_eq!(ask(&affinity, &visit(2, 1, 12), 99), 2);
        assert_eq!(ask(&affinity, &visit(1, 1, 13), 99), 99, "forgotten");
    }

    #[test]
    fn without_room_every_choice_is_fresh() {
        let affinity = affinity(0);
        assert_eq!(ask(&affinity, &visit(1, 1, 0), 5), 5);
        assert_eq!(ask(&affinity, &visit(1, 1, 0), 6), 6);
    }

    #[test]
    fn aff_8_workers_that_meet_a_client_at_once_agree() {
        const WORKERS: u32 = 4;
        let affinity = affinity(4096);
        let barrier = Barrier::new(WORKERS as usize);
        let choices: Vec<Vec<u32>> = std::thread::scope(|scope| {
            let workers = (0..WORKERS).map(|worker| {
                let (affinity, barrier) = (&affinity, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    (0..500).map(|client| ask(affinity, &visit(client, 1, 0), worker)).collect()
                })
            });
            let workers: Vec<_> = workers.collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        for client in 0..500 {
            let first = choices[0][client];
            assert!(choices.iter().all(|choices| choices[client] == first), "client {client}");
        }
    }
}
