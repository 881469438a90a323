//! A persistent hash map: cloning is cheap, and changing one key of a clone copies one small shard.
//!
//! Three levels of 32 pointers lead to 32,768 shards. A published clone shares every shard with its successor but those
//! that changed, so the cost of one endpoint change does not depend on the size of the cluster: it is that of three
//! nodes of 32 reference counts, most of them in cold memory, and of one shard, some forty keys of a million. Fewer and
//! larger shards would copy more keys, larger nodes touch more counts, more levels cost every lookup a step.

use std::sync::Arc;

const FANOUT_BITS: u32 = 5;
const FANOUT: usize = 1 << FANOUT_BITS;
const FIRST_SLOTS: usize = 2;

/// Hashed by the caller, because only the caller knows which key is cheap to hash.
#[derive(Clone, Debug)]
pub struct ShardMap<K, V> {
    root: Node<Node<Node<Shard<K, V>>>>,
    len: usize,
}

type Node<T> = Arc<[T; FANOUT]>;

/// Open addressing with linear probing over a power of two of slots; at most 3/4 full, so that a miss ends soon. Without
/// keys there is no slot.
type Shard<K, V> = Arc<[Option<(K, V)>]>;

impl<K: Copy + Eq, V: Clone> Default for ShardMap<K, V> {
    fn default() -> Self {
        let shard: Shard<K, V> = Arc::new([]);
        let leaf = Arc::new(std::array::from_fn(|_| shard.clone()));
        let branch = Arc::new(std::array::from_fn(|_| leaf.clone()));
        Self { root: Arc::new(std::array::from_fn(|_| branch.clone())), len: 0 }
    }
}

impl<K: Copy + Eq, V: Clone> ShardMap<K, V> {
    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of `key`, whose hash is `hash`.
    #[must_use]
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let [branch, leaf, shard] = path(hash);
        let shard = &self.root[branch][leaf][shard];
        shard[find(shard, hash, key)?].as_ref().map(|(_, value)| value)
    }

    /// Sets the value of `key` and returns the former one. `rehash` gives the hash of any key of this map.
    pub fn insert(&mut self, key: K, value: V, rehash: impl Fn(&K) -> u64) -> Option<V> {
        let hash = rehash(&key);
        let shard = self.shard_mut(hash);
        if let Some(slot) = find(shard, hash, &key) {
            let slot = &mut Arc::make_mut(shard)[slot];
            return slot.replace((key, value)).map(|(_, old)| old);
        }
        let keys = shard.iter().flatten().count() + 1;
        if keys * 4 > shard.len() * 3 {
            *shard = place(shard.iter().flatten().cloned(), slots_for(keys), &rehash);
        }
        put(Arc::make_mut(shard), hash, (key, value));
        self.len += 1;
        None
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &K, rehash: impl Fn(&K) -> u64) -> Option<V> {
        let hash = rehash(key);
        // Look before copying: removing an absent key must not unshare a shard.
        let value = self.get(hash, key)?.clone();
        let shard = self.shard_mut(hash);
        // Linear probing has no holes: the rest is put in place anew.
        let rest = shard.iter().flatten().filter(|(other, _)| other != key).cloned();
        *shard = place(rest, slots_for(shard.iter().flatten().count() - 1), rehash);
        self.len -= 1;
        Some(value)
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let leaves = self.root.iter().flat_map(|branch| branch.iter());
        let shards = leaves.flat_map(|leaf| leaf.iter());
        shards.flat_map(|shard| shard.iter().flatten().map(|(key, value)| (key, value)))
    }

    fn shard_mut(&mut self, hash: u64) -> &mut Shard<K, V> {
        let [branch, leaf, shard] = path(hash);
        let branch = &mut Arc::make_mut(&mut self.root)[branch];
        let leaf = &mut Arc::make_mut(branch)[leaf];
        &mut Arc::make_mut(leaf)[shard]
    }
}

#[inline]
fn find<K: Eq, V>(slots: &[Option<(K, V)>], hash: u64, key: &K) -> Option<usize> {
    let mask = slots.len().checked_sub(1)?;
    let mut slot = home(hash, mask);
    // There is a free slot always, but who reads this need not know.
    for _ in 0..slots.len() {
        match &slots[slot] {
            Some((found, _)) if found == key => return Some(slot),
            Some(_) => slot = (slot + 1) & mask,
            None => return None,
        }
    }
    None
}

/// The smallest shard that `keys` keys fit.
fn slots_for(keys: usize) -> usize {
    let mut slots = if keys == 0 { 0 } else { FIRST_SLOTS };
    while keys * 4 > slots * 3 {
        slots *= 2;
    }
    slots
}

fn place<K, V: Clone>(
    keys: impl Iterator<Item = (K, V)>,
    slots: usize,
    rehash: impl Fn(&K) -> u64,
) -> Shard<K, V> {
    let mut shard: Shard<K, V> = std::iter::repeat_with(|| None).take(slots).collect();
    if let Some(slots) = Arc::get_mut(&mut shard) {
        for pair in keys {
            let hash = rehash(&pair.0);
            put(slots, hash, pair);
        }
    }
    shard
}

/// Into a free slot, of which there is one.
fn put<K, V>(slots: &mut [Option<(K, V)>], hash: u64, pair: (K, V)) {
    let mask = slots.len() - 1;
    let mut slot = home(hash, mask);
    while slots[slot].is_some() {
        slot = (slot + 1) & mask;
    }
    slots[slot] = Some(pair);
}

/// The way to the shard of a hash: its top bits.
#[expect(clippy::cast_possible_truncation, reason = "five bits each")]
fn path(hash: u64) -> [usize; 3] {
    [1, 2, 3].map(|level| (hash >> (u64::BITS - level * FANOUT_BITS)) as usize % FANOUT)
}

/// The first slot to look at: the low bits, which the shard's choice did not use.
#[expect(clippy::cast_possible_truncation, reason = "masked to the table's size")]
fn home(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    impl<K, V> ShardMap<K, V> {
        /// Shards that two maps do not share.
        pub(in crate::service) fn copied(&self, other: &Self) -> usize {
            fn shards<K, V>(map: &ShardMap<K, V>) -> impl Iterator<Item = &Shard<K, V>> {
                map.root.iter().flat_map(|branch| branch.iter().flat_map(|leaf| leaf.iter()))
            }
            shards(self).zip(shards(other)).filter(|(a, b)| !Arc::ptr_eq(a, b)).count()
        }
    }

    fn rehash(key: &u16) -> u64 {
        // Few distinct hashes: every probe sequence collides.
        u64::from(*key % 5) << 49 | u64::from(*key % 3)
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(ops in prop::collection::vec((any::<bool>(), 0u16..64, any::<u8>()), 0..200)) {
            let (mut map, mut model) = (ShardMap::default(), HashMap::new());
            for (insert, key, value) in ops {
                let before = map.clone();
                let frozen = model.clone();
                if insert {
                    prop_assert_eq!(map.insert(key, value, rehash), model.insert(key, value));
                } else {
                    prop_assert_eq!(map.remove(&key, rehash), model.remove(&key));
                }
                for key in 0..64 {
                    prop_assert_eq!(map.get(rehash(&key), &key), model.get(&key));
                    prop_assert_eq!(before.get(rehash(&key), &key), frozen.get(&key), "a clone changed");
                }
                prop_assert_eq!(map.len(), model.len());
                prop_assert_eq!(map.iter().count(), model.len());
            }
        }
    }
}
