//! Who talks to whom, by number, and in which order.
//!
//! Ten million flows must cost the generator no memory, or it would push the tables out of the caches: a flow's client
//! follows from its number by arithmetic. Only what the gateway chose for it has to be remembered, 8 bytes a flow.

use dataplane::flow::{Protocol, Tuple};

use super::network::{self, POD_PORT, SERVICE_PORT};

/// Odd, so that multiplication is a bijection: neighbouring numbers become clients and ports far apart (RFC 4814).
const SCATTER: u32 = 0x9e37_79b1;
/// Undoes it.
const GATHER: u32 = 0x0e8b_2f51;

/// What flows have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) v4: bool,
    pub(crate) protocol: Protocol,
    /// Whether their clients' addresses are replaced.
    pub(crate) masquerade: bool,
}

impl Kind {
    pub(crate) const UDP4: Self = Self { v4: true, protocol: Protocol::Udp, masquerade: false };
    pub(crate) const TCP4: Self = Self { protocol: Protocol::Tcp, ..Self::UDP4 };
    pub(crate) const UDP6: Self = Self { v4: false, ..Self::UDP4 };
    pub(crate) const TCP6: Self = Self { v4: false, ..Self::TCP4 };

    pub(crate) const fn masqueraded(self) -> Self {
        Self { masquerade: true, ..self }
    }

    /// `udp4`.
    pub(crate) fn name(self) -> String {
        network::protocol_name(self.v4, self.protocol)
    }

    /// The number of the flow that a client's address and port belong to.
    pub(crate) fn number(client: &Tuple) -> u32 {
        let low = u32::from(client.sport.saturating_sub(1024) / 63);
        (network::client_number(client.src) << 10 | low).wrapping_mul(GATHER)
    }

    /// A flow as its client sends it, to one of so many Services.
    pub(crate) fn flow(self, number: u32, services: u32) -> Tuple {
        let scattered = number.wrapping_mul(SCATTER);
        let sport = 1024 + 63 * u16::try_from(scattered & 1023).unwrap_or_default();
        Tuple {
            src: network::client(self.v4, scattered >> 10),
            dst: network::service(self.v4, self.masquerade, number % services),
            sport,
            dport: SERVICE_PORT,
            protocol: self.protocol,
        }
    }
}

/// What the gateway chose for a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choice {
    /// The number of the pod.
    pod: u32,
    /// The source port that the pod sees.
    sport: u16,
}

impl Choice {
    /// From a flow as its pod sees it; `None` when no pod does.
    pub(crate) fn of(inside: &Tuple) -> Option<Self> {
        Some(Self { pod: network::pod_number(inside.dst)?, sport: inside.sport })
    }

    /// The flow as its pod sees it.
    pub(crate) fn inside(self, flow: &Tuple, masquerade: bool) -> Tuple {
        let v4 = flow.src.is_v4();
        let src = if masquerade { network::masquerade(v4) } else { flow.src };
        let dst = network::pod(v4, self.pod);
        Tuple { src, dst, sport: self.sport, dport: POD_PORT, ..*flow }
    }
}

/// The order in which connections get packets.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// One after the other, from a number on.
    Sequence(u32),
    /// Each as likely as any other.
    Uniform { random: Random, connections: u32 },
    /// Few have most of the packets: sampled beforehand, and repeated from the start when used up.
    Zipf { samples: Vec<u32>, next: usize },
}

/// Packets until a Zipf order repeats itself.
const ZIPF_SAMPLES: usize = 1 << 20;

impl Order {
    pub(crate) fn uniform(connections: u32) -> Self {
        Self::Uniform { random: Random(1), connections }
    }

    /// Connection number n gets packets in proportion to 1 / (n + 1).
    pub(crate) fn zipf(connections: u32) -> Self {
        let mut total = 0.0;
        let share = |number: u32| {
            total += 1.0 / f64::from(number + 1);
            total
        };
        let upto: Vec<f64> = (0..connections).map(share).collect();
        let mut random = Random(1);
        let sample = |_| {
            let point = random.fraction() * total;
            let number = upto.partition_point(|&end| end < point);
            u32::try_from(number).unwrap_or(u32::MAX).min(connections - 1)
        };
        Self::Zipf { samples: (0..ZIPF_SAMPLES).map(sample).collect(), next: 0 }
    }

    /// The number of the flow that the next packet is of.
    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        match self {
            Self::Sequence(next) => {
                *next += 1;
                *next - 1
            }
            Self::Uniform { random, connections } => random.below(*connections),
            Self::Zipf { samples, next } => {
                let sample = samples[*next];
                *next = (*next + 1) % samples.len();
                sample
            }
        }
    }
}

/// Splitmix64: every seed gives the same numbers in every run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[inline]
    fn below(&mut self, limit: u32) -> u32 {
        // The product of two 32-bit numbers, shifted, fits 32 bits.
        u32::try_from(((self.next() >> 32) * u64::from(limit)) >> 32).unwrap_or_default()
    }

    /// From 0 to below 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_flows_are_the_same_and_all_are_found_again() {
        for kind in [Kind::UDP4, Kind::TCP6.masqueraded()] {
            let ends: HashSet<_> = (0..1_000_000)
                .map(|number| (number, kind.flow(number, 100)))
                .inspect(|(number, flow)| assert_eq!(Kind::number(flow), *number))
                .map(|(_, flow)| (flow.src, flow.sport))
                .collect();
            assert_eq!(ends.len(), 1_000_000);
        }
        for (v4, number) in (0..100_000).flat_map(|number| [(true, number), (false, number)]) {
            assert_eq!(network::pod_number(network::pod(v4, number)), Some(number));
        }
    }

    #[test]
    fn what_the_gateway_chose_gives_the_flow_inside() {
        for masquerade in [false, true] {
            let flow = Kind { masquerade, ..Kind::UDP6 }.flow(7, 3);
            let src = if masquerade { network::masquerade(false) } else { flow.src };
            let dst = network::pod(false, 12_345);
            let inside = Tuple { src, dst, sport: 999, dport: POD_PORT, ..flow };
            let choice = Choice::of(&inside).expect("a pod");
            assert_eq!(choice.inside(&flow, masquerade), inside);
        }
    }

    #[test]
    fn orders_are_what_they_are_called() {
        let count = |mut order: Order| {
            let mut packets = [0u32; 10];
            (0..100_000).for_each(|_| packets[order.next() as usize] += 1);
            packets
        };
        assert!(count(Order::uniform(10)).iter().all(|n| (9_500..10_500).contains(n)));
        // The harmonic number of 10 is 2.929.
        let zipf = count(Order::zipf(10));
        for (number, &packets) in zipf.iter().enumerate() {
            let expected = 100_000.0 / 2.929 / (number as f64 + 1.0);
            assert!((f64::from(packets) / expected - 1.0).abs() < 0.05, "{zipf:?}");
        }
    }
}
