//! The connection table against a map, to the second.

use std::collections::HashMap;
use std::time::Duration;

use dataplane::clock::Moment;
use dataplane::conntrack::state::{State, Timeouts};
use dataplane::conntrack::{Conntrack, ConntrackConfig, InsertError};
use dataplane::flow::{Address, Protocol, Tuple};
use dataplane::hash::HashKey;
use dataplane::service::backends::BackendId;
use proptest::prelude::*;

fn table(connections_v4: usize, connections_v6: usize) -> Conntrack {
    let config = ConntrackConfig { connections_v4, connections_v6, timeouts: Timeouts::default() };
    let memory = config.plain_memory();
    Conntrack::new(&config, HashKey::new(5), memory).expect("memory fits")
}

fn tuple(number: u16, v4: bool) -> Tuple {
    let address = |last: u8| {
        if v4 { Address::v4([10, 0, 0, last]) } else { Address::v6([last; 16]) }
    };
    Tuple { src: address(1), dst: address(2), sport: number, dport: 80, protocol: Protocol::Tcp }
}

fn translated(tuple: &Tuple) -> Tuple {
    Tuple {
        dst: if tuple.src.is_v4() { Address::v4([10, 9, 9, 9]) } else { Address::v6([9; 16]) },
        dport: 8080,
        ..*tuple
    }
}

fn find(table: &mut Conntrack, tuple: &Tuple, now: Moment) -> Option<State> {
    let hash = table.hash(tuple);
    table.find(tuple, hash, now).map(|hit| hit.state)
}

/// Lets the sweep pass over everything.
fn sweep(table: &mut Conntrack, now: &mut Moment, millis: u64) {
    for _ in 0..millis {
        *now = now.after(1);
        table.sweep(*now);
    }
}

/// Every state ends with the second in which its time is over, seen from both directions.
#[test]
fn every_state_lasts_exactly_its_time() {
    let timeouts = Timeouts::default();
    // Also across the wrap of the 16-bit clock.
    for start in [0, 999, 65_530_000, 65_536_000 * 3 - 1] {
        for state in State::ALL {
            for v4 in [true, false] {
                let mut table = table(16, 16);
                let start = Moment(start);
                let flow = tuple(1, v4);
                let to = translated(&flow);
                let inserted = table.insert(&flow, &to, state, BackendId::NONE, start);
                assert!(inserted.is_ok());
                // The second it began in counts in full.
                let end = (start.secs() + u64::from(timeouts.secs(state)) + 1) * 1000;
                assert_eq!(find(&mut table, &flow, Moment(end - 1)), Some(state));
                assert_eq!(find(&mut table, &to.reversed(), Moment(end - 1)), Some(state));
                assert_eq!(find(&mut table, &flow, Moment(end)), None, "{state:?}");
                assert_eq!(find(&mut table, &to.reversed(), Moment(end)), None);
                assert!(table.is_empty() && table.half_open() == 0);
            }
        }
    }
}

/// Time alone empties the table, whatever the sizes of its two halves are to each other.
#[test]
fn the_sweep_leaves_nothing_behind() {
    for (v4, v6) in [(2_000, 2_000), (2_000, 4), (4, 2_000), (1, 20_000)] {
        let mut table = table(v4, v6);
        let mut now = Moment(5_000);
        for (count, is_v4) in [(v4, true), (v6, false)] {
            for number in 0..count / 2 {
                let flow = tuple(number as u16, is_v4);
                let state = State::ALL[number % State::ALL.len()];
                let inserted = table.insert(&flow, &translated(&flow), state, BackendId::NONE, now);
                assert!(inserted.is_ok(), "{inserted:?}");
            }
        }
        let first = tuple(0, true);
        let inserted =
            table.insert(&first, &translated(&first), State::SynSent, BackendId::NONE, now);
        assert!(v4 / 2 > 0 || inserted.is_ok());
        // Never without a sweep for longer than the clock's wrap allows.
        for _ in 0..2 {
            now = now.after(5_000_000);
            sweep(&mut table, &mut now, 4_200);
        }
        assert_eq!((table.len(), table.half_open()), (0, 0), "{v4} and {v6}");
    }
}

/// A table at rest for as long as a deadline may lie ahead, and then some.
#[test]
fn the_longest_timeout_survives_the_wrap_of_the_clock() {
    let tcp_established = Duration::from_secs(1_000_000);
    let timeouts = Timeouts { tcp_established, ..Timeouts::default() };
    let config = ConntrackConfig { connections_v4: 64, connections_v6: 4, timeouts };
    let mut table =
        Conntrack::new(&config, HashKey::new(5), config.plain_memory()).expect("memory fits");
    let mut now = Moment(50_000_000);
    let flow = tuple(1, true);
    let inserted =
        table.insert(&flow, &translated(&flow), State::Established, BackendId::NONE, now);
    assert!(inserted.is_ok());
    for _ in 0..59 {
        now = now.after(995_000);
        sweep(&mut table, &mut now, 5_000);
        assert_eq!(table.len(), 1, "at {now:?}");
    }
    now = now.after(1_100_000);
    sweep(&mut table, &mut now, 5_000);
    assert_eq!(table.len(), 0);
}

/// What is past its time is in nobody's way, even before the sweep comes by.
#[test]
fn the_dead_do_not_clash() {
    let mut table = table(16, 16);
    let flow = tuple(1, true);
    let other = Tuple { dst: Address::v4([10, 0, 0, 3]), ..flow };
    let to = translated(&flow);
    let insert = |table: &mut Conntrack, flow: &Tuple, now| {
        table.insert(flow, &to, State::Unreplied, BackendId::NONE, now).map(|hit| hit.to)
    };
    assert_eq!(insert(&mut table, &flow, Moment(0)), Ok(to));
    assert_eq!(insert(&mut table, &other, Moment(120_999)), Err(InsertError::Clash));
    assert_eq!(insert(&mut table, &other, Moment(121_000)), Ok(to));
    assert_eq!(table.len(), 1);
}

/// Among those to evict, the dead go first.
#[test]
fn the_dead_are_evicted_before_the_living() {
    let mut table = table(4, 4);
    let insert = |table: &mut Conntrack, number, state, now| {
        let flow = tuple(number, true);
        table.insert(&flow, &translated(&flow), state, BackendId::NONE, Moment(now)).map(|_| ())
    };
    assert_eq!(insert(&mut table, 1, State::Established, 0), Ok(()));
    assert_eq!(insert(&mut table, 2, State::SynSent, 60_000), Ok(()));
    assert_eq!(insert(&mut table, 3, State::Unreplied, 60_000), Ok(()));
    assert_eq!(insert(&mut table, 4, State::SynSent, 0), Ok(()));
    assert_eq!(insert(&mut table, 5, State::SynSent, 61_000), Ok(()));
    let now = Moment(61_000);
    let left: Vec<u16> =
        (1..=5).filter(|&number| find(&mut table, &tuple(number, true), now).is_some()).collect();
    assert_eq!(left, [1, 2, 3, 5]);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert(u16, u8),
    Touch(u16, bool),
    Advance(u16, u8),
    Remove(u16),
    Sleep(u16),
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0u16..12;
    prop_oneof![
        (number.clone(), 0u8..10).prop_map(|(n, s)| Op::Insert(n, s)),
        (number.clone(), any::<bool>()).prop_map(|(n, r)| Op::Touch(n, r)),
        (number.clone(), 0u8..10).prop_map(|(n, s)| Op::Advance(n, s)),
        number.prop_map(Op::Remove),
        (0u16..400).prop_map(Op::Sleep),
    ]
}

proptest! {
    #[test]
    fn it_equals_a_map_with_deadlines(v4: bool, start in 0u64..200_000, ops in prop::collection::vec(op(), 0..200)) {
        let mut table = table(64, 64);
        let timeouts = Timeouts::default();
        let mut now = Moment(start * 1000);
        // State and deadline per direction.
        let mut model: HashMap<u16, (State, [u64; 2])> = HashMap::new();
        let end = |state, now: Moment| now.secs() + u64::from(timeouts.secs(state)) + 1;
        for op in ops {
            match op {
                Op::Insert(number, state) => {
                    let (flow, state) = (tuple(number, v4), State::ALL[usize::from(state)]);
                    let inserted = table.insert(&flow, &translated(&flow), state, BackendId::NONE, now);
                    let free = !model.contains_key(&number);
                    prop_assert_eq!(inserted.is_ok(), free);
                    if free {
                        model.insert(number, (state, [end(state, now); 2]));
                    }
                }
                Op::Touch(number, reply) => {
                    let flow = tuple(number, v4);
                    let flow = if reply { translated(&flow).reversed() } else { flow };
                    let hash = table.hash(&flow);
                    if let Some(hit) = table.find(&flow, hash, now) {
                        prop_assert_eq!(hit.reply, reply);
                        table.touch(&hit, now);
                        let (state, deadlines) = model.get_mut(&number).expect("it lives");
                        deadlines[usize::from(reply)] = end(*state, now);
                    }
                }
                Op::Advance(number, state) => {
                    let (flow, state) = (tuple(number, v4), State::ALL[usize::from(state)]);
                    let hash = table.hash(&flow);
                    if let Some(mut hit) = table.find(&flow, hash, now) {
                        table.advance(&mut hit, state, now);
                        model.insert(number, (state, [end(state, now); 2]));
                    }
                }
                Op::Remove(number) => {
                    let flow = tuple(number, v4);
                    let hash = table.hash(&flow);
                    if let Some(hit) = table.find(&flow, hash, now) {
                        table.remove(&hit);
                    }
                    model.remove(&number);
                }
                Op::Sleep(secs) => {
                    now = now.after(u64::from(secs) * 1000 + 7);
                    table.sweep(now);
                }
            }
            model.retain(|_, (_, deadlines)| deadlines.iter().any(|&deadline| deadline > now.secs()));
            for number in 0..12 {
                let flow = tuple(number, v4);
                let expected = model.get(&number).map(|(state, _)| *state);
                prop_assert_eq!(find(&mut table, &flow, now), expected);
                prop_assert_eq!(find(&mut table, &translated(&flow).reversed(), now), expected);
            }
            // Looking for the dead has buried them.
            prop_assert_eq!(table.len(), model.len());
            let half_open = model.values().filter(|(state, _)| state.class() == dataplane::conntrack::state::Class::HalfOpen);
            prop_assert_eq!(table.half_open(), half_open.count());
        }
    }
}
