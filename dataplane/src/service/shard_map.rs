//! A persistent hash map: cloning is cheap, and changing one key of a clone copies one small shard.
//!
//! Two levels of 64 pointers lead to 4096 shards. A published clone shares every shard with its successor but those
//! that changed, so the cost of one endpoint change does not depend on the size of the cluster.

use std::sync::Arc;

const FANOUT: usize = 64;
const EMPTY_SLOTS: usize = 0;
const FIRST_SLOTS: usize = 4;

/// Hashed by the caller, because only the caller knows which key is cheap to hash.
#[derive(Clone, Debug)]
pub struct ShardMap<K, V> {
    branches: Arc<[Branch<K, V>; FANOUT]>,
    len: usize,
}

type Branch<K, V> = Arc<[Arc<Shard<K, V>>; FANOUT]>;

/// Open addressing with linear probing; at most 3/4 full, so that a miss ends soon.
#[derive(Clone, Debug)]
struct Shard<K, V> {
    slots: Vec<Option<(K, V)>>,
    len: usize,
}

impl<K: Copy + Eq, V: Clone> Default for ShardMap<K, V> {
    fn default() -> Self {
        let shard = Arc::new(Shard { slots: Vec::new(), len: 0 });
        let branch = Arc::new(std::array::from_fn(|_| shard.clone()));
        Self { branches: Arc::new(std::array::from_fn(|_| branch.clone())), len: 0 }
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
        let (branch, leaf) = path(hash);
        let shard = &self.branches[branch][leaf];
        let slot = shard.find(hash, key)?;
        shard.slots[slot].as_ref().map(|(_, value)| value)
    }

    /// Sets the value of `key` and returns the former one. `rehash` gives the hash of any key of this map.
    pub fn insert(&mut self, key: K, value: V, rehash: impl Fn(&K) -> u64) -> Option<V> {
        let hash = rehash(&key);
        let shard = self.shard_mut(hash);
        if let Some(slot) = shard.find(hash, &key) {
            return shard.slots[slot].replace((key, value)).map(|(_, old)| old);
        }
        if (shard.len + 1) * 4 > shard.slots.len() * 3 {
            shard.resize((shard.slots.len() * 2).max(FIRST_SLOTS), &rehash);
        }
        shard.place(hash, key, value);
        self.len += 1;
        None
    }

    /// Removes `key` and returns its value.
    pub fn remove(&mut self, key: &K, rehash: impl Fn(&K) -> u64) -> Option<V> {
        let hash = rehash(key);
        let (branch, leaf) = path(hash);
        // Look before copying: removing an absent key must not unshare a shard.
        let slot = self.branches[branch][leaf].find(hash, key)?;
        let shard = self.shard_mut(hash);
        let (_, value) = shard.slots[slot].take()?;
        shard.len -= 1;
        let size = if shard.len == 0 { EMPTY_SLOTS } else { shard.slots.len() };
        // Linear probing has no holes: put the rest back in place.
        shard.resize(size, &rehash);
        self.len -= 1;
        Some(value)
    }

    /// All keys and values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let shards = self.branches.iter().flat_map(|branch| branch.iter());
        shards.flat_map(|shard| shard.slots.iter().flatten().map(|(key, value)| (key, value)))
    }

    fn shard_mut(&mut self, hash: u64) -> &mut Shard<K, V> {
        let (branch, leaf) = path(hash);
        let branch = &mut Arc::make_mut(&mut self.branches)[branch];
        Arc::make_mut(&mut Arc::make_mut(branch)[leaf])
    }
}

impl<K: Copy + Eq, V> Shard<K, V> {
    fn find(&self, hash: u64, key: &K) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = home(hash, mask);
        for _ in 0..self.slots.len() {
            match &self.slots[slot] {
                Some((found, _)) if found == key => return Some(slot),
                Some(_) => slot = (slot + 1) & mask,
                None => return None,
            }
        }
        None
    }

    fn place(&mut self, hash: u64, key: K, value: V) {
        let mask = self.slots.len() - 1;
        let mut slot = home(hash, mask);
        while self.slots[slot].is_some() {
            slot = (slot + 1) & mask;
        }
        self.slots[slot] = Some((key, value));
        self.len += 1;
    }

    fn resize(&mut self, slots: usize, rehash: impl Fn(&K) -> u64) {
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(slots, || None);
        self.len = 0;
        for (key, value) in old.into_iter().flatten() {
            self.place(rehash(&key), key, value);
        }
    }
}

/// The shard of a hash: its top twelve bits.
fn path(hash: u64) -> (usize, usize) {
    ((hash >> 58) as usize, (hash >> 52) as usize % FANOUT)
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

    fn rehash(key: &u16) -> u64 {
        // Few distinct hashes: every probe sequence collides.
        u64::from(*key % 5) << 52 | u64::from(*key % 3)
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
