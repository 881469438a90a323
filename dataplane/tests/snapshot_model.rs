//! Every interleaving of publisher and readers, up to a bound (I10).
//!
//!     RUSTFLAGS="--cfg loom" cargo test -p dataplane --test snapshot_model --release --target-dir target/loom
//!
//! A value here notices when it is read by one thread while another drops it, and by whom it is dropped.
//! Tried by hand, each of these mutations of `snapshot.rs` makes the models fail:
//! - `take` that says what it holds before it has let go of the old value: a reader frees;
//! - `Reader` whose seat goes before its value: a reader that leaves frees;
//! - `take` that says what it holds after the lock is released: a value just taken is not kept, its reader frees it.

#![cfg(loom)]

use dataplane::snapshot::{Publisher, Reader, channel};
use loom::cell::UnsafeCell;
use loom::thread::{self, ThreadId};

/// A value that knows where it belongs.
struct Value {
    number: u64,
    home: ThreadId,
    // Loom reports an access that another one may run into.
    memory: UnsafeCell<()>,
}

impl Value {
    fn new(number: u64) -> Self {
        Self { number, home: thread::current().id(), memory: UnsafeCell::new(()) }
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.memory.with_mut(|_| ());
        assert_eq!(thread::current().id(), self.home, "{} was freed by a reader", self.number);
    }
}

/// Uses the value held, as a burst would.
fn read(reader: &Reader<Value>) -> u64 {
    let value = reader.get();
    value.memory.with(|_| ());
    assert_eq!(value.number, reader.version(), "value and version belong together");
    value.number
}

/// Looks `times` times; what it sees never gets older.
fn look(reader: &mut Reader<Value>, times: usize) {
    let mut last = read(reader);
    for _ in 0..times {
        reader.refresh();
        let now = read(reader);
        assert!(now >= last);
        last = now;
    }
}

fn publish(publisher: &mut Publisher<Value>, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        assert_eq!(publisher.publish(Value::new(number)), number);
    }
}

fn model(
    readers: usize,
    test: impl Fn(Publisher<Value>, Vec<Reader<Value>>) + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (publisher, readers) = channel(Value::new(1), readers);
        test(publisher, readers);
    });
}

#[test]
fn two_readers_three_values() {
    model(2, |mut publisher, readers| {
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                thread::spawn(move || {
                    look(&mut reader, 2);
                    reader
                })
            })
            .collect();
        publish(&mut publisher, 2..=3);
        let readers: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("the reader is well")).collect();
        for mut reader in readers {
            // Nobody holds the lock any more, so one look is enough.
            reader.refresh();
            assert_eq!(read(&reader), 3);
        }
        publisher.reclaim();
        assert_eq!((publisher.retired(), publisher.acknowledged()), (0, u64::MAX));
    });
}

#[test]
fn a_reader_that_leaves_frees_nothing() {
    model(1, |mut publisher, mut readers| {
        let mut reader = readers.remove(0);
        let thread = thread::spawn(move || {
            look(&mut reader, 1);
            drop(reader);
        });
        publish(&mut publisher, 2..=3);
        publisher.reclaim();
        thread.join().expect("the reader is well");
        publisher.reclaim();
        assert_eq!(publisher.retired(), 0);
    });
}

#[test]
fn a_reader_that_never_looks_keeps_its_value_and_no_more() {
    model(2, |mut publisher, mut readers| {
        let mut busy = readers.remove(0);
        let idle = readers.remove(0);
        let idle = thread::spawn(move || {
            read(&idle);
            idle
        });
        let busy = thread::spawn(move || {
            look(&mut busy, 2);
            busy
        });
        publish(&mut publisher, 2..=4);
        assert!(publisher.retired() <= 2, "{} retired", publisher.retired());
        assert_eq!(publisher.acknowledged(), 1);
        let idle = idle.join().expect("the reader is well");
        assert_eq!(read(&idle), 1);
        drop(busy.join().expect("the reader is well"));
        publisher.reclaim();
        assert_eq!(publisher.retired(), 1, "the idle one's");
        drop(idle);
    });
}
