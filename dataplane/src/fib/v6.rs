//! IPv6 routes: a hash table of hosts, and disjoint ranges for everything shorter.
//!
//! Hosts are many (every neighbour is one) and prefixes few, so a destination costs one probe, and a short search if it
//! is no host of ours.

use crate::hash::{HashKey, low32};

/// Routes by index.
#[derive(Clone, Debug, Default)]
pub(super) struct RoutesV6 {
    hosts: Hosts,
    ranges: Ranges,
}

impl RoutesV6 {
    /// From (first, last, route), shortest prefixes first; of equal ones the later counts.
    pub(super) fn new(prefixes: &[(u128, u128, u32)]) -> Self {
        let (hosts, prefixes): (Vec<_>, Vec<_>) =
            prefixes.iter().partition(|(first, last, _)| first == last);
        Self { hosts: Hosts::new(&hosts), ranges: Ranges::new(&prefixes) }
    }

    #[inline]
    pub(super) fn find(&self, address: u128) -> u32 {
        self.hosts.find(address).unwrap_or_else(|| self.ranges.find(address))
    }
}

/// Not secret: hosts are the kernel's neighbours, which nobody far away chooses.
const KEY: HashKey = HashKey::new(6);

/// Open addressing, at most half full. A free slot has the unspecified address, which is nobody's.
#[derive(Clone, Debug, Default)]
struct Hosts {
    slots: Vec<(u128, u32)>,
}

impl Hosts {
    fn new(hosts: &[(u128, u128, u32)]) -> Self {
        let mut slots = vec![(0, 0); (hosts.len() * 2).next_power_of_two()];
        for &(address, _, route) in hosts.iter().filter(|(address, ..)| *address != 0) {
            let mut at = home(address, slots.len());
            while slots[at].0 != 0 && slots[at].0 != address {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = (address, route);
        }
        Self { slots }
    }

    #[inline]
    fn find(&self, address: u128) -> Option<u32> {
        let start = home(address, self.slots.len());
        // Ends at the first free slot, of which there are as many as used ones.
        for step in 0..self.slots.len() {
            let (host, route) = self.slots[(start + step) & (self.slots.len() - 1)];
            if host == address {
                return (host != 0).then_some(route);
            }
            if host == 0 {
                return None;
            }
        }
        None
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are hashed")]
fn home(address: u128, slots: usize) -> usize {
    low32(KEY.pair((address >> 64) as u64, address as u64)) as usize & slots.saturating_sub(1)
}

/// Where each range begins, ascending, and its route.
#[derive(Clone, Debug, Default)]
struct Ranges {
    starts: Vec<u128>,
    routes: Vec<u32>,
}

impl Ranges {
    /// From (first, last, route), shortest prefixes first.
    fn new(prefixes: &[(u128, u128, u32)]) -> Self {
        let mut starts: Vec<u128> = vec![0];
        for &(first, last, _) in prefixes {
            starts.push(first);
            starts.extend(last.checked_add(1));
        }
        starts.sort_unstable();
        starts.dedup();
        let mut routes = vec![0; starts.len()];
        for &(first, last, route) in prefixes {
            let from = starts.partition_point(|&start| start < first);
            let to = starts.partition_point(|&start| start <= last);
            routes[from..to].fill(route);
        }
        Self { starts, routes }
    }

    /// Eight parts a step, and counted: a binary search compiles to a branch a step, and half of them go wrong.
    #[inline]
    fn find(&self, address: u128) -> u32 {
        let (mut found, mut rest) = (0, self.starts.as_slice());
        while rest.len() > 8 {
            let part = rest.len() / 8;
            let passed = (1..8).filter(|i| rest[i * part] <= address).count() * part;
            found += passed;
            // As long as the last part, whichever it is: the number of steps then does not depend on the address.
            rest = &rest[passed..passed + rest.len() - 7 * part];
        }
        found += rest.iter().skip(1).filter(|start| **start <= address).count();
        self.routes[found]
    }
}
