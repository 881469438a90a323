//! The generator against devices in memory: what it must notice, it notices.

use std::collections::VecDeque;

use dataplane::nic::memory::MemoryFrame;
use dataplane::nic::{Burst, Frame, Nic};
use vipgate::dpdk::cycles;

use super::frames::{self, Ends, Tag, Template};
use super::generator::{Direction, Effect, Generator, Load, Source};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// The clock need not be exact here.
const HZ: u64 = 2_000_000_000;

/// A device at the other end of a wire that has room for so many frames.
#[derive(Debug, Default)]
struct Fake {
    waiting: VecDeque<MemoryFrame>,
    room: usize,
    /// Backends are chosen as by a gateway.
    translates: bool,
    /// Of the frames it takes it loses the first ones.
    lose: usize,
    /// Every so many come back twice.
    double: Option<usize>,
    /// Goes to the wrong backend from this frame on.
    stray: Option<usize>,
    taken: usize,
}

impl Fake {
    fn take(&mut self, mut frame: MemoryFrame) {
        self.taken += 1;
        if self.taken <= self.lose {
            return;
        }
        if self.translates {
            let bytes = frame.bytes_mut();
            let (Some(tag), Some(ends)) = (Tag::read(bytes), frames::verify(bytes)) else {
                panic!("a frame that is none of ours")
            };
            let stray = u8::from(self.stray.is_some_and(|from| self.taken >= from));
            let backend = (frames::backend_in_turn(tag.flow * 7) + stray) % frames::BACKENDS;
            let to = if ends == Ends::forward(tag.flow) {
                Ends::forwarded(tag.flow, backend)
            } else {
                assert_eq!(ends, Ends::forwarded(tag.flow, backend).reversed());
                Ends::forward(tag.flow).reversed()
            };
            Template::new(MAC).write(bytes, to, tag.flow, tag.sequence, tag.sent);
        }
        if self.double.is_some_and(|every| self.taken.is_multiple_of(every)) {
            self.waiting.push_back(frame.clone());
        }
        self.waiting.push_back(frame);
    }
}

impl Nic for Fake {
    type Frame = MemoryFrame;

    fn receive(&mut self, burst: &mut Burst<MemoryFrame>) {
        while !burst.is_full() {
            let Some(frame) = self.waiting.pop_front() else { return };
            burst.push(frame);
        }
    }

    fn transmit(&mut self, burst: &mut Burst<MemoryFrame>) {
        let room = self.room.saturating_sub(self.waiting.len()).min(burst.len());
        let frames: Vec<MemoryFrame> = burst.drain(..room).collect();
        frames.into_iter().for_each(|frame| self.take(frame));
    }

    fn recycle(&mut self, burst: &mut Burst<MemoryFrame>) {
        burst.clear();
    }
}

#[derive(Debug)]
struct Heap;

impl Source<MemoryFrame> for Heap {
    fn fill(&mut self, burst: &mut Burst<MemoryFrame>, count: usize) -> bool {
        burst.extend((0..count).map(|_| MemoryFrame::new(&[])));
        true
    }
}

fn generator(fake: Fake) -> Generator<Fake, Heap> {
    let effect = if fake.translates { Effect::Translates } else { Effect::Reflects };
    Generator::new(Fake { room: 4096, ..fake }, Heap, effect, MAC, HZ)
}

fn load(direction: Direction) -> Load {
    Load { direction, flows: 100, rate: 2e5, seconds: 0.02, timed: true }
}

#[test]
fn a_device_that_reflects_everything_loses_nothing() {
    let mut generator = generator(Fake::default());
    for _ in 0..2 {
        let trial = generator.run(&load(Direction::Forward));
        assert!(trial.lossless() && trial.received > 1000, "{trial:?}");
        assert!(trial.checked >= trial.received / 100 && trial.wrong == 0, "{trial:?}");
        let latency = trial.latency.expect("timed");
        assert!(latency.len() >= trial.received / 10 && latency.max() < cycles());
    }
}

#[test]
fn losses_and_doubles_are_told_apart_from_a_full_ring() {
    let lossy = generator(Fake { lose: 50, ..Fake::default() }).run(&load(Direction::Forward));
    assert_eq!((lossy.lost(), lossy.longest_gap, lossy.gaps), (50, 50, 1));
    let double = generator(Fake { double: Some(100), ..Fake::default() });
    let double = { double }.run(&load(Direction::Forward));
    assert!(double.disordered > 0 && !double.lossless());
    let mut full = generator(Fake::default());
    full.nic.room = 16;
    let full = full.run(&Load { rate: f64::INFINITY, ..load(Direction::Forward) });
    assert!(full.refused > 0 && full.lost() == full.refused, "{full:?}");
}

#[test]
fn opened_flows_are_translated_both_ways_and_checked() {
    let gateway = Fake { translates: true, lose: 10, ..Fake::default() };
    let mut generator = generator(gateway);
    assert_eq!(generator.open(100, 5.0), 0);
    assert_eq!(generator.known[3].backend, Some(frames::backend_in_turn(21)));
    for direction in [Direction::Forward, Direction::Reply] {
        let trial = generator.run(&load(direction));
        assert!(trial.lossless() && trial.checked > 0 && trial.wrong == 0, "{trial:?}");
    }
    generator.nic.stray = Some(0);
    let trial = generator.run(&load(Direction::Forward));
    assert!(trial.wrong == trial.checked && trial.checked > 0, "{trial:?}");
}

#[test]
fn what_never_opens_is_counted() {
    let mut generator = generator(Fake { translates: true, lose: usize::MAX, ..Fake::default() });
    assert_eq!(generator.open(40, 0.05), 40);
}
