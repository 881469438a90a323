//! Workers on NICs whose frames are in buffers taken beforehand, as a real NIC's are: for who watches the allocator or
//! counts instructions.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam::queue::ArrayQueue;
use dataplane::clock::Moment;
use dataplane::counters::WorkerCounters;
use dataplane::fib::PortId;
use dataplane::handoff;
use dataplane::nic::{BURST, Burst, Frame, Nic};
use dataplane::snapshot::{self, Publisher};
use dataplane::tables::Tables;
use dataplane::worker::{KernelPath, Worker};

use super::gateway::Gateway;

/// Bytes of a buffer and, of those, of its headroom.
const BUFFER: usize = 2048;
const HEADROOM: usize = 128;
/// Frames there are; no queue takes more.
const FRAMES: usize = 4096;

/// A frame in a buffer of the pool: a pointer to whoever moves it, as an mbuf is.
pub struct PooledFrame(Box<Buffer>);

struct Buffer {
    bytes: [u8; BUFFER],
    start: usize,
    len: usize,
}

impl PooledFrame {
    fn new() -> Self {
        Self(Box::new(Buffer { bytes: [0; BUFFER], start: HEADROOM, len: 0 }))
    }

    fn fill(&mut self, bytes: &[u8]) {
        let Buffer { bytes: buffer, start, len } = &mut *self.0;
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        (*start, *len) = (HEADROOM, bytes.len());
    }
}

impl Frame for PooledFrame {
    fn bytes(&self) -> &[u8] {
        &self.0.bytes[self.0.start..self.0.start + self.0.len]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let Buffer { bytes, start, len } = &mut *self.0;
        &mut bytes[*start..*start + *len]
    }

    fn grow_front(&mut self, len: usize) -> bool {
        let fits = len <= self.0.start;
        if fits {
            self.0.start -= len;
            self.0.len += len;
        }
        fits
    }

    fn set_len(&mut self, len: usize) -> bool {
        let fits = self.0.start + len <= BUFFER;
        if fits {
            self.0.len = len;
        }
        fits
    }
}

/// A queue of a port: what waits to be received, what was sent, and what was given back.
#[derive(Clone)]
pub struct PooledNic {
    rx: Arc<Mutex<Burst<PooledFrame>>>,
    tx: Arc<Mutex<Vec<PooledFrame>>>,
    recycled: Arc<Mutex<Vec<PooledFrame>>>,
}

impl PooledNic {
    fn new() -> Self {
        let queue = || Arc::new(Mutex::new(Vec::with_capacity(FRAMES)));
        Self { rx: Arc::default(), tx: queue(), recycled: queue() }
    }
}

impl Nic for PooledNic {
    type Frame = PooledFrame;

    fn receive(&mut self, burst: &mut Burst<PooledFrame>) {
        *burst = mem::take(&mut locked(&self.rx));
    }

    fn transmit(&mut self, burst: &mut Burst<PooledFrame>) {
        locked(&self.tx).extend(burst.drain(..));
    }

    fn recycle(&mut self, burst: &mut Burst<PooledFrame>) {
        locked(&self.recycled).extend(burst.drain(..));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with the lock")
}

/// Workers like those of a gateway, each with two ports.
pub struct PooledWorkers {
    pub workers: Vec<Worker<PooledNic>>,
    pub counters: Vec<Arc<WorkerCounters>>,
    pub now: Moment,
    nics: Vec<[PooledNic; 2]>,
    kernel: KernelPath<PooledFrame>,
    pool: Vec<PooledFrame>,
    publisher: Publisher<Tables>,
}

impl PooledWorkers {
    /// With the tables that the gateway has now.
    pub fn new(gateway: &Gateway) -> Self {
        let count = gateway.setup.workers;
        let (publisher, readers) = snapshot::channel(gateway.tables(), usize::from(count));
        let ring = || Arc::new(ArrayQueue::new(FRAMES));
        let kernel = KernelPath {
            punts: vec![ring(), ring()],
            injects: vec![ring(), ring()],
            wanted: Arc::new(ArrayQueue::new(64)),
        };
        let (mut workers, mut nics, mut counters) = (vec![], vec![], vec![]);
        for ((id, links), reader) in (0..).zip(handoff::mesh(count)).zip(readers) {
            let queues = [PooledNic::new(), PooledNic::new()];
            let own = Arc::new(WorkerCounters::new(2));
            let (engine, kernel) = (gateway.engine_of(id), kernel.clone());
            let (own_queues, counted) = (queues.to_vec(), own.clone());
            workers.push(Worker::new(id, own_queues, engine, reader, links, kernel, counted));
            nics.push(queues);
            counters.push(own);
        }
        let pool = (0..FRAMES).map(|_| PooledFrame::new()).collect();
        Self { workers, counters, now: gateway.now, nics, kernel, pool, publisher }
    }

    /// New tables, seen at every worker's next turn.
    pub fn publish(&mut self, gateway: &Gateway) {
        self.publisher.publish(gateway.tables());
    }

    /// Puts frames, at most a burst, where a worker will receive them.
    pub fn put<'a>(
        &mut self,
        worker: usize,
        port: PortId,
        frames: impl IntoIterator<Item = &'a Vec<u8>>,
    ) {
        let mut rx = locked(&self.nics[worker][usize::from(port)].rx);
        for bytes in frames {
            assert!(rx.len() < BURST, "a receive takes one burst");
            let mut frame = self.pool.pop().expect("the pool has frames");
            frame.fill(bytes);
            rx.push(frame);
        }
    }

    /// A frame from the kernel twin of a port.
    pub fn put_injected(&mut self, port: PortId, bytes: &[u8]) {
        let mut frame = self.pool.pop().expect("the pool has frames");
        frame.fill(bytes);
        assert!(self.kernel.injects[usize::from(port)].push(frame).is_ok());
    }

    /// Takes back all frames that ended; those that were sent are shown before.
    pub fn collect(&mut self, mut sent: impl FnMut(&[u8])) {
        for nic in self.nics.iter().flatten() {
            let mut left = locked(&nic.tx);
            left.iter().for_each(|frame| sent(frame.bytes()));
            self.pool.append(&mut left);
            self.pool.append(&mut locked(&nic.recycled));
        }
        for punts in &self.kernel.punts {
            self.pool.extend(std::iter::from_fn(|| punts.pop()));
        }
    }
}
