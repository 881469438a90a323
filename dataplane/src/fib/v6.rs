//! IPv6 routes: first by the upper 64 bits of an address, and below a subnet with longer prefixes by the lower 64.
//!
//! In either half most prefixes are as long as can be: subnets (a node's pods are one) and hosts (every neighbour is
//! one). One probe of a hash table finds those; a search tree has the few others, and what found no place in the table.

use crate::flow::Address;
use crate::hash::halves;

/// Marks a subnet with longer prefixes; the rest is its number.
const LONGER: u32 = 1 << 31;

/// Routes by index.
#[derive(Clone, Debug)]
pub(super) struct RoutesV6 {
    upper: Half,
    subnets: Vec<Half>,
}

impl RoutesV6 {
    /// From (first, last, route), shortest prefixes first; of equal ones the later counts.
    pub(super) fn new(prefixes: &[(u128, u128, u32)]) -> Self {
        let (longer, others): (Vec<_>, Vec<_>) = prefixes
            .iter()
            .copied()
            .partition(|(first, last, _)| last - first < u128::from(u64::MAX));
        let mut rules: Vec<_> =
            others.iter().map(|&(first, last, route)| (upper(first), upper(last), route)).collect();
        let around = Half::new(&rules);
        let mut numbers: Vec<u64> = longer.iter().map(|&(first, ..)| upper(first)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut subnets: Vec<_> =
            numbers.iter().map(|&subnet| vec![(0, u64::MAX, around.find(subnet))]).collect();
        for (first, last, route) in longer {
            if let Ok(number) = numbers.binary_search(&upper(first)) {
                subnets[number].push((lower(first), lower(last), route));
            }
        }
        rules
            .extend(numbers.into_iter().zip(LONGER..).map(|(subnet, mark)| (subnet, subnet, mark)));
        let subnets = subnets.iter().map(|rules| Half::new(rules)).collect();
        Self { upper: Half::new(&rules), subnets }
    }

    /// The route of an address, given in its halves.
    #[inline(always)]
    pub(super) fn find(&self, (upper, lower): (u64, u64)) -> u32 {
        let found = self.upper.find(upper);
        if found & LONGER == 0 { found } else { self.find_longer(found & !LONGER, lower) }
    }

    #[inline(never)]
    fn find_longer(&self, subnet: u32, lower: u64) -> u32 {
        self.subnets[subnet as usize].find(lower)
    }
}

impl Default for RoutesV6 {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// What is known of 64 bits.
#[derive(Clone, Debug)]
struct Half {
    /// A power of two, at most a quarter used: numbers that stand for themselves, each where its hash says.
    slots: Vec<(u64, u32)>,
    shift: u32,
    ranges: Ranges,
}

impl Half {
    /// From (first, last, route), shortest ranges first; of equal ones the later counts.
    fn new(rules: &[(u64, u64, u32)]) -> Self {
        let single = |(first, last, _): &&(u64, u64, u32)| first == last;
        let count = (rules.iter().filter(single).count() * 4).next_power_of_two().max(2);
        let shift = u64::BITS - count.ilog2();
        // A free slot has a number that is not looked for there.
        let mut slots = vec![(0, 0); count];
        slots[home(0, shift)].0 = 1;
        let mut others = vec![];
        for &(first, last, route) in rules {
            let slot = &mut slots[home(first, shift)];
            let is_free = home(slot.0, shift) != home(first, shift);
            if first == last && (is_free || slot.0 == first) {
                *slot = (first, route);
            } else {
                others.push((first, last, route));
            }
        }
        Self { slots, shift, ranges: Ranges::new(&others) }
    }

    #[inline(always)]
    fn find(&self, number: u64) -> u32 {
        let (single, route) = self.slots[home(number, self.shift)];
        if single == number { route } else { self.ranges.find(number) }
    }
}

/// The upper bits of a multiple: neighbouring numbers come to lie far apart.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a shift leaves as many bits as slots have")]
fn home(number: u64, shift: u32) -> usize {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
}

/// Numbers of a node: one cache line.
const WIDTH: usize = 8;

/// Ascending numbers, with the upper bit turned: the CPU compares four at once only as signed ones.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Node([i64; WIDTH]);

/// A search tree of where each range begins. A node's numbers are the first ones of its children, and every number takes
/// the same count of steps, none of them a branch: which way it goes is beyond prediction.
#[derive(Clone, Debug)]
struct Ranges {
    /// Level by level, each full but for the last, so that child n of node k is node 8 k + n + 1.
    nodes: Vec<Node>,
    steps: u32,
    /// What the first leaf's first number would be called, were it a node.
    first: usize,
    /// By range.
    routes: Vec<u32>,
}

impl Ranges {
    /// From (first, last, route), shortest ranges first; of equal ones the later counts.
    fn new(rules: &[(u64, u64, u32)]) -> Self {
        let mut starts: Vec<u64> = vec![0];
        for &(first, last, _) in rules {
            starts.push(first);
            starts.extend(last.checked_add(1));
        }
        starts.sort_unstable();
        starts.dedup();
        let mut routes = vec![0; starts.len()];
        for &(first, last, route) in rules {
            let from = starts.partition_point(|&start| start < first);
            let to = starts.partition_point(|&start| start <= last);
            routes[from..to].fill(route);
        }
        let mut steps = 1;
        while WIDTH.pow(steps) < starts.len() {
            steps += 1;
        }
        let mut nodes = vec![];
        for step in 1..=steps {
            // Below each number of this level are so many ranges.
            let apart = WIDTH.pow(steps - step);
            let number = |at| signed(starts.get(at * apart).copied().unwrap_or(u64::MAX));
            let node = |n| Node(std::array::from_fn(|at| number(n * WIDTH + at)));
            let count =
                if step < steps { WIDTH.pow(step - 1) } else { starts.len().div_ceil(WIDTH) };
            nodes.extend((0..count).map(node));
        }
        let first = (WIDTH.pow(steps) - 1) / (WIDTH - 1);
        Self { nodes, steps, first, routes }
    }

    #[inline(always)]
    fn find(&self, number: u64) -> u32 {
        let wanted = signed(number);
        let mut at = 0;
        for _ in 0..self.steps {
            // Only the greatest number, which what fills up the nodes is not above, leaves the tree.
            let Some(Node(numbers)) = self.nodes.get(at) else { break };
            let above: usize = numbers.iter().map(|&number| usize::from(number > wanted)).sum();
            at = (at + 1) * WIDTH - above;
        }
        self.routes[at.wrapping_sub(self.first).min(self.routes.len() - 1)]
    }
}

#[inline]
fn signed(number: u64) -> i64 {
    (number ^ 1 << 63).cast_signed()
}

fn upper(address: u128) -> u64 {
    halves(Address(address)).0
}

fn lower(address: u128) -> u64 {
    halves(Address(address)).1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An address of a few bits, at both ends of both halves: prefixes of such then lie in each other.
    fn spread([a, b, c, d]: [u8; 4]) -> u128 {
        u128::from(a) << 120 | u128::from(b) << 64 | u128::from(c) << 56 | u128::from(d)
    }

    fn part() -> impl Strategy<Value = u8> {
        prop_oneof![4 => 0u8..3, 1 => Just(u8::MAX), 1 => any::<u8>()]
    }

    fn address() -> impl Strategy<Value = u128> {
        prop_oneof![
            8 => [part(), part(), part(), part()].prop_map(spread),
            1 => any::<u128>(),
            1 => Just(u128::MAX),
        ]
    }

    /// First and last address.
    fn prefix(address: u128, len: u32) -> (u128, u128) {
        let hosts = u128::MAX.checked_shr(len).unwrap_or(0);
        (address & !hosts, address | hosts)
    }

    proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            mut prefixes in prop::collection::vec((address(), prop_oneof![0u32..=128, Just(64), Just(128)]), 0..120),
            probes in prop::collection::vec(address(), 50),
        ) {
            prefixes.sort_by_key(|(_, len)| *len);
            let rules: Vec<_> = (1..)
                .zip(&prefixes)
                .map(|(route, &(address, len))| (prefix(address, len).0, prefix(address, len).1, route))
                .collect();
            let routes = RoutesV6::new(&rules);
            let ends = rules.iter().flat_map(|&(first, last, _)| [first, last]);
            let beside = ends.clone().flat_map(|end| [end.wrapping_sub(1), end.wrapping_add(1)]);
            for probe in probes.into_iter().chain(ends.clone()).chain(beside) {
                let mut matching = rules.iter().rev().filter(|(first, last, _)| (first..=last).contains(&&probe));
                let expected = matching.next().map_or(0, |&(.., route)| route);
                prop_assert_eq!(routes.find(halves(Address(probe))), expected, "{:#x}", probe);
            }
        }
    }

    #[test]
    fn trees_of_every_size_find_every_range() {
        for count in (0..70).chain(500..530) {
            for top in [u64::MAX, u64::MAX - 1, 1 << 63] {
                // Each begins where the one before it ends.
                let starts: Vec<u64> = (0..count).rev().map(|n| top - n * 1000).collect();
                let rules: Vec<_> =
                    (1..).zip(&starts).map(|(n, &start)| (start, u64::MAX, n)).collect();
                let ranges = Ranges::new(&rules);
                for (n, &start) in (1..).zip(&starts) {
                    assert_eq!(
                        (ranges.find(start), ranges.find(start - 1)),
                        (n, n - 1),
                        "{n} of {count}"
                    );
                }
                let all = u32::try_from(count).expect("small");
                assert_eq!((ranges.find(0), ranges.find(u64::MAX)), (0, all));
            }
        }
    }
}
