//! The express way of ordinary packets equals the whole way: same verdict, same bytes, same connections after it.

use super::*;
use crate::model::twins::{BACKENDS, CLIENTS, Oddity, SECONDS, Step, Twins};

fn oddity() -> impl Strategy<Value = Oddity> {
    prop_oneof![
        6 => Just(Oddity::Nothing),
        1 => (0u8..4).prop_map(Oddity::Ttl),
        1 => Just(Oddity::Vlan),
        1 => Just(Oddity::Options),
        1 => Just(Oddity::NoChecksum),
        1 => any::<u8>().prop_map(Oddity::Padding),
        1 => (0u16..1_500).prop_map(Oddity::Payload),
        1 => any::<u16>().prop_map(Oddity::Word),
        3 => prop::collection::vec((0u8..80, any::<u8>()), 1..3).prop_map(Oddity::Edits),
        1 => (0u8..90).prop_map(Oddity::Cut),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let ask = (0..CLIENTS, any::<bool>(), any::<bool>(), 0..8u8, oddity());
    prop_oneof![
        8 => (ask, prop::collection::vec(0..8u8, 0..3)).prop_map(
            |((client, is_tcp, masquerade, flags, oddity), answers)| Step::Ask {
                client, is_tcp, masquerade, flags, answers, oddity,
            }
        ),
        1 => (0..BACKENDS.len()).prop_map(Step::Backends),
        1 => (0..SECONDS.len()).prop_map(Step::Sleep),
    ]
}

proptest! {
    #[test]
    fn the_express_way_equals_the_whole_way(v4: bool, steps in prop::collection::vec(any_step(), 1..60)) {
        let mut twins = Twins::new(if v4 { V4 } else { V6 });
        steps.iter().for_each(|step| twins.run(step));
    }
}

/// The comparison must see what it is for.
#[test]
fn ordinary_packets_do_take_the_express_way() {
    for f in FAMILIES {
        for is_tcp in [false, true] {
            for masquerade in [false, true] {
                let mut twins = Twins::new(f);
                // SYN and SYN-ACK, the handshake's end, then two segments and four answers.
                for (flags, answers) in
                    [(0, vec![6]), (1, vec![]), (2, vec![1, 2]), (1, vec![2, 2])]
                {
                    let oddity = Oddity::Payload(40);
                    twins.run(&Step::Ask { client: 0, is_tcp, masquerade, flags, answers, oddity });
                }
                assert_eq!(twins.welcomed, 1, "{f:?}");
                assert!(twins.expressed >= 6, "{} of 9 in {f:?}", twins.expressed);
            }
        }
    }
}

/// Every value that a transport checksum can take, before and after.
#[test]
fn every_checksum_comes_out_as_on_the_whole_way() {
    for f in FAMILIES {
        for is_tcp in [false, true] {
            let mut twins = Twins::new(f);
            let ask = |flags, answers, oddity| {
                let (client, masquerade) = (0, true);
                Step::Ask { client, is_tcp, masquerade, flags, answers, oddity }
            };
            // SYN and SYN-ACK, then segments.
            twins.run(&ask(0, vec![6], Oddity::Nothing));
            twins.run(&ask(1, vec![], Oddity::Nothing));
            let before = twins.expressed;
            for word in 0..=u16::MAX {
                twins.run(&ask(1, vec![], Oddity::Word(word)));
            }
            assert_eq!(twins.expressed - before, 1 << 16, "packets that took it");
        }
    }
}
