//! The DPDK types against a real EAL, without root, huge pages or a NIC.
//!
//! EAL starts once per process, so the tests share one; each uses its own pool and its own virtual port.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;

use dataplane::nic::{BURST, Burst, Frame, Nic};
use dataplane::rss::{Ends, key};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use vipgate::dpdk::{
    DpdkError, Eal, EalConfig, Hashing, HugeMemory, Mbuf, Memory, Mempool, PoolConfig, Port,
    PortConfig, QueuePair, RxChecksum, cycles,
};

static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());

static EAL: LazyLock<Eal> = LazyLock::new(|| {
    let log = tracing_subscriber::registry().with(Recorder);
    tracing::subscriber::set_global_default(log).expect("the first subscriber");
    let mut vdevs: Vec<String> = (0..6).map(|n| format!("net_ring{n}")).collect();
    vdevs.extend(["net_null0,size=60".into(), "net_null1".into(), "net_null2".into()]);
    vdevs.push("net_pcap7,rx_pcap=/absent.pcap".into());
    Eal::init(&EalConfig { vdevs, ..small() }).expect("EAL")
});

fn small() -> EalConfig {
    EalConfig { memory: Memory::Ordinary { mib: 128 }, ..EalConfig::default() }
}

fn pool(name: &str, mbufs: u32) -> Arc<Mempool> {
    let name = name.to_owned();
    let config = PoolConfig { name, mbufs, cache: 0, mtu: 1500, socket: None };
    Mempool::create(&EAL, config).expect("pool")
}

fn running(name: &str, queue_pairs: u16, pool: &Arc<Mempool>) -> (Port, Vec<QueuePair>) {
    let mut port = Port::open(&EAL, name).expect("port");
    let config = PortConfig { queue_pairs, ..PortConfig::default() };
    port.configure(&config, pool).expect("configured");
    let queues = port.start().expect("started");
    (port, queues)
}

fn burst_of(pool: &Mempool, count: usize) -> Burst<Mbuf> {
    (0..count).map(|n| pool.frame(&[u8::try_from(n).unwrap(); 60]).expect("buffer")).collect()
}

#[test]
fn a_frame_is_freed_exactly_once_from_any_thread() {
    let pool = pool("once", 63);
    assert_eq!((pool.size(), pool.available(), pool.in_use()), (63, 63, 0));
    let frame = pool.frame(b"hello").expect("buffer");
    assert_eq!((frame.bytes(), pool.in_use()), (&b"hello"[..], 1));
    assert!(frame.is_contiguous());
    frame.prefetch();
    thread::spawn(move || drop(frame)).join().unwrap();
    assert!(pool.all_back());
}

#[test]
fn an_empty_pool_and_an_oversized_frame_give_none() {
    let pool = pool("empty", 31);
    assert!(pool.frame(&[0; 4096]).is_none());
    assert!(pool.all_back(), "the refused frame's buffer is back");
    let frames: Vec<Mbuf> = (0..31).map(|_| pool.frame(b"x").expect("buffer")).collect();
    assert!(pool.frame(b"x").is_none());
    drop(frames);
    assert!(pool.all_back() && pool.frame(b"x").is_some());
}

#[test]
fn a_burst_is_filled_as_a_whole_or_not_at_all() {
    let pool = pool("fill", 31);
    let mut burst = Burst::new();
    assert!(pool.fill(&mut burst, 20) && pool.fill(&mut burst, 4));
    assert!(burst.iter().all(|frame| frame.bytes().is_empty() && frame.is_contiguous()));
    assert!(burst[23].set_len(60));
    assert!(!pool.fill(&mut burst, BURST - 23), "the burst has no room for so many");
    assert!(!pool.fill(&mut burst, 8), "the pool has only seven");
    assert_eq!((burst.len(), pool.in_use()), (24, 24));
    drop(burst);
    assert!(pool.all_back());
}

#[test]
fn frames_grow_and_shrink_within_their_buffer() {
    let pool = pool("resize", 31);
    let mut frame = pool.frame(b"payload").expect("buffer");
    assert!(frame.grow_front(8));
    frame.bytes_mut()[..8].copy_from_slice(b"headers ");
    assert_eq!(frame.bytes(), b"headers payload");
    assert!(!frame.grow_front(121), "8 of the 128 bytes of headroom are used");
    assert!(!frame.grow_front(usize::MAX));
    assert_eq!(frame.bytes(), b"headers payload");
    assert!(frame.grow_front(120));
    assert_eq!(frame.bytes().len(), 135);
    assert!(frame.set_len(2176), "the whole buffer: 2048 bytes and the headroom");
    assert!(!frame.set_len(2177) && !frame.set_len(1 << 16));
    assert_eq!(frame.bytes().len(), 2176);
    assert!(frame.set_len(0));
    assert!(frame.bytes().is_empty());
    assert_eq!(frame.ip_checksum(), RxChecksum::Unknown);
    assert_eq!(frame.l4_checksum(), RxChecksum::Unknown);
    drop(frame);
    assert!(pool.all_back());
}

#[test]
fn a_burst_goes_out_and_comes_back_through_a_port() {
    let pool = pool("loop", 255);
    let (port, mut queues) = running("net_ring0", 1, &pool);
    assert_eq!((port.name(), port.driver().unwrap().as_str()), ("net_ring0", "net_ring"));
    assert_eq!((port.mtu().unwrap(), port.link().unwrap().up), (1500, true));
    assert_eq!((queues.len(), queues[0].queue(), queues[0].port()), (1, 0, "net_ring0"));

    let mut out = burst_of(&pool, BURST);
    queues[0].transmit(&mut out);
    assert!(out.is_empty());
    assert_eq!(pool.in_use(), 32, "the ring holds them");

    let mut back = burst_of(&pool, 2);
    queues[0].receive(&mut back);
    assert_eq!(back.len(), BURST, "received behind the two that were there");
    assert!(back[2..].iter().enumerate().all(|(n, frame)| usize::from(frame.bytes()[59]) == n));
    queues[0].receive(&mut back);
    assert_eq!(back.len(), BURST, "a full burst receives nothing");
    queues[0].recycle(&mut back);
    assert!(back.is_empty());
    queues[0].receive(&mut back);
    assert_eq!((back.len(), back[0].bytes()), (2, &[30; 60][..]));
    drop(back);
    assert!(pool.all_back());
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (32, 32));
}

#[test]
fn a_full_queue_leaves_the_rest_in_the_burst_in_order() {
    let pool = pool("full", 2047);
    let (_port, mut queues) = running("net_ring1", 1, &pool);
    // The ring takes 1023 frames: 31 whole bursts and all but one frame of the next.
    for _ in 0..31 {
        let mut burst = burst_of(&pool, BURST);
        queues[0].transmit(&mut burst);
        assert!(burst.is_empty());
    }
    let mut burst = burst_of(&pool, 25);
    queues[0].transmit(&mut burst);
    assert!(burst.is_empty());
    let mut burst = burst_of(&pool, BURST);
    queues[0].transmit(&mut burst);
    let left: Vec<u8> = burst.iter().map(|frame| frame.bytes()[0]).collect();
    assert_eq!(left, (6..32).collect::<Vec<u8>>());
    queues[0].transmit(&mut burst);
    assert_eq!(burst.len(), 26, "a full queue takes none");
    queues[0].recycle(&mut burst);
    assert_eq!(pool.in_use(), 1023);
    queues[0].receive(&mut burst);
    while !burst.is_empty() {
        queues[0].recycle(&mut burst);
        queues[0].receive(&mut burst);
    }
    assert!(pool.all_back());
}

#[test]
fn a_null_port_makes_and_swallows_frames() {
    let pool = pool("null", 255);
    let (port, mut queues) = running("net_null0", 1, &pool);
    let mut burst = Burst::new();
    for _ in 0..100 {
        queues[0].receive(&mut burst);
        assert_eq!((burst.len(), burst[0].bytes().len()), (BURST, 60));
        queues[0].transmit(&mut burst);
        assert!(burst.is_empty());
    }
    drop((queues, port));
    assert!(pool.all_back());
}

/// Of the drivers that need no NIC, none hashes an end alone.
#[test]
fn a_port_says_how_it_spreads_packets() {
    let pool = pool("spread", 255);
    let mut port = Port::open(&EAL, "net_null2").expect("port");
    assert!(port.hashes(Ends::Both).unwrap());
    assert!(!port.hashes(Ends::Source).unwrap() && !port.hashes(Ends::Destination).unwrap());
    let key = Arc::new(key::of_ends(|| 0x6d5a << 48));
    let config = |ends| PortConfig {
        queue_pairs: 2,
        rss: Some(Hashing { ends, key: key.clone() }),
        ..PortConfig::default()
    };
    let error = port.configure(&config(Ends::Source), &pool).unwrap_err().to_string();
    assert!(error.starts_with("cannot configure port net_null2: "), "{error}");
    port.configure(&config(Ends::Both), &pool).expect("configured");
    let queues = port.start().expect("started");
    assert!(port.rss().is_none(), "this driver takes the hash, and says that it does not");
    drop((queues, port));
    assert!(pool.all_back());
}

#[test]
fn a_port_runs_only_as_long_as_nobody_else_touches_it() {
    let pool = pool("owned", 255);
    let (mut port, queues) = running("net_ring2", 2, &pool);
    assert_eq!(queues.len(), 2);
    let error = port.stop().unwrap_err();
    assert_eq!(error.to_string(), "cannot stop port net_ring2 while workers hold its queues");
    assert!(matches!(port.start(), Err(DpdkError::QueuesInUse { .. })));
    assert!(matches!(Port::open(&EAL, "net_ring2"), Err(DpdkError::PortOpen { .. })));
    drop(queues);
    port.stop().unwrap();
    port.configure(&PortConfig::default(), &pool).expect("configured anew");
    assert_eq!(port.start().unwrap().len(), 1);
    drop(port);
    assert!(!EAL.ports().contains(&"net_ring2".to_owned()), "closed");
}

#[test]
fn a_port_takes_the_mac_address_and_mtu_it_is_given() {
    let config = PoolConfig { name: "jumbo".into(), mbufs: 255, cache: 0, mtu: 9000, socket: None };
    let pool = Mempool::create(&EAL, config).unwrap();
    let mut port = Port::open(&EAL, "net_null1").unwrap();
    let mac = Some([2, 0, 0, 0, 0, 9]);
    let config = PortConfig { mac, mtu: 9000, promiscuous: true, ..PortConfig::default() };
    port.configure(&config, &pool).unwrap();
    assert_eq!((port.mac().ok(), port.mtu().unwrap()), (mac, 9000));
    let mut port = Port::open(&EAL, "net_ring4").unwrap();
    let error = port.configure(&config, &pool).unwrap_err().to_string();
    assert!(error.starts_with("cannot set the MAC address of port net_ring4: "), "{error}");
}

#[test]
fn a_frame_that_outlives_its_pool_is_safe_and_reported() {
    let pool = pool("outlived", 31);
    let frame = pool.frame(b"late").unwrap();
    drop(pool);
    assert_eq!(frame.bytes(), b"late");
    drop(frame);
    assert!(LOG.lock().unwrap().contains(&"ERROR dpdk packet buffers leaked".to_owned()));
}

#[test]
fn what_a_port_cannot_do_is_said_with_its_name() {
    let pool = pool("limits", 31);
    let mut port = Port::open(&EAL, "net_ring3").unwrap();
    assert!(matches!(port.start(), Err(DpdkError::NotConfigured { .. })));
    let offered = port.max_queue_pairs().unwrap();
    let config = PortConfig { queue_pairs: offered + 1, ..PortConfig::default() };
    let error = port.configure(&config, &pool).unwrap_err().to_string();
    let asked = offered + 1;
    assert_eq!(
        error,
        format!("port net_ring3 offers {offered} rx queue(s), {asked} worker(s) need {asked}")
    );
    let config = PortConfig { mtu: 9000, ..PortConfig::default() };
    let error = port.configure(&config, &pool).unwrap_err();
    assert!(matches!(error, DpdkError::PoolTooSmall { mtu: 9000, .. }), "{error}");
}

#[test]
fn an_unknown_port_is_reported_with_what_there_is_and_what_dpdk_said() {
    let error = Port::open(&EAL, "net_pcap7").unwrap_err().to_string();
    assert!(error.starts_with("no port net_pcap7; DPDK found net_"), "{error}");
    assert!(error.contains("net_ring5") && error.contains("/absent.pcap"), "{error}");
}

#[test]
fn a_pool_that_cannot_be_made_says_why() {
    let config =
        PoolConfig { name: "big".into(), mbufs: 1 << 24, cache: 0, mtu: 1500, socket: None };
    let DpdkError::Failed(failure) = Mempool::create(&EAL, config).unwrap_err() else { panic!() };
    assert_eq!(failure.operation(), "make pool big of 16777216 packet buffers");
    assert!(failure.remedy().is_some_and(|remedy| remedy.contains("memory")), "{failure}");
    let _first = pool("same name", 31);
    let config =
        PoolConfig { name: "same name".into(), mbufs: 31, cache: 0, mtu: 1500, socket: None };
    let error = Mempool::create(&EAL, config).unwrap_err();
    assert!(error.to_string().contains("exists"), "{error}");
}

#[test]
fn threads_get_lcores_of_their_own_and_give_them_back() {
    let pool = Mempool::create(
        &EAL,
        PoolConfig { name: "cached".into(), mbufs: 1023, cache: 64, mtu: 1500, socket: None },
    )
    .unwrap();
    let all_here = Barrier::new(3);
    let lcores: BTreeSet<u32> = thread::scope(|scope| {
        let worker = || {
            let registered = EAL.register_thread().expect("an lcore");
            let again = EAL.register_thread().unwrap_err();
            assert!(matches!(again, DpdkError::ThreadRegistered { .. }), "{again}");
            all_here.wait();
            drop(burst_of(&pool, BURST));
            registered.lcore()
        };
        let threads = [scope.spawn(worker), scope.spawn(worker), scope.spawn(worker)];
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert_eq!(lcores.len(), 3, "{lcores:?}");
    assert!(pool.all_back(), "buffers in a cache are free");
    thread::spawn(|| drop(EAL.register_thread().expect("a free lcore"))).join().unwrap();
}

#[test]
fn table_memory_is_zeroed_aligned_and_ours() {
    let mut memory = HugeMemory::allocate(&EAL, 1 << 20, None).unwrap();
    assert_eq!(memory.as_ptr().align_offset(64), 0);
    assert!(memory.len() == 1 << 20 && memory.iter().all(|&byte| byte == 0));
    memory.fill(7);
    drop(memory);
    let leaked = HugeMemory::allocate(&EAL, 1 << 20, None).unwrap().leak();
    assert!(leaked.iter().all(|&byte| byte == 0), "zeroed again");
    let error = HugeMemory::allocate(&EAL, 1 << 40, None).unwrap_err().to_string();
    assert!(error.starts_with("cannot allocate 1048576 MiB of table memory"), "{error}");
}

#[test]
fn the_clock_runs_at_its_frequency() {
    let (start, hz) = (cycles(), EAL.tsc_hz());
    thread::sleep(std::time::Duration::from_millis(20));
    let elapsed = cycles() - start;
    assert!(elapsed > hz / 100 && elapsed < hz * 10, "{elapsed} cycles at {hz} Hz");
}

#[test]
fn a_second_start_and_a_malformed_argument_are_refused() {
    LazyLock::force(&EAL);
    let error = Eal::init(&small()).unwrap_err();
    assert!(matches!(error, DpdkError::AlreadyInitialised), "{error}");
    let nul = EalConfig { vdevs: vec!["net\0null".into()], ..EalConfig::default() };
    assert!(Eal::init(&nul).unwrap_err().to_string().contains("NUL"));
}

#[test]
fn dpdks_log_is_in_ours_with_its_level() {
    LazyLock::force(&EAL);
    let log = LOG.lock().unwrap().clone();
    assert!(log.iter().any(|line| line.starts_with("DEBUG dpdk EAL: ")), "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("ERROR dpdk ")), "{log:#?}");
}

/// What needs an EAL of its own runs in this program started again, with a directory for its files.
fn in_a_process_of_its_own(child: &str) {
    let directory = format!("dpdk-{}-{child}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
    std::fs::create_dir_all(&directory).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", child, "--ignored", "--nocapture"])
        .env("RUNTIME_DIRECTORY", &directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> = std::fs::read_dir(directory.join("dpdk")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn drops_in_any_order_shut_dpdk_down_and_leave_nothing_behind() {
    in_a_process_of_its_own("child_starts_and_ends");
}

#[test]
fn a_failed_start_says_what_to_do_and_leaves_nothing_behind() {
    in_a_process_of_its_own("child_fails_to_start");
}

#[test]
fn a_pcap_goes_in_and_a_pcap_comes_out() {
    in_a_process_of_its_own("child_passes_a_pcap");
}

#[test]
#[ignore = "started by another test"]
fn child_starts_and_ends() {
    let here = nix::unistd::Pid::from_raw(0);
    let cpus = nix::sched::sched_getaffinity(here).unwrap();
    let vdevs = vec!["net_ring0".into()];
    let eal = Eal::init(&EalConfig { vdevs, ..small() }).unwrap();
    assert_eq!(nix::sched::sched_getaffinity(here).unwrap(), cpus, "not pinned");
    let config = PoolConfig { name: "p".into(), mbufs: 255, cache: 0, mtu: 1500, socket: None };
    let pool = Mempool::create(&eal, config).unwrap();
    let mut port = Port::open(&eal, "net_ring0").unwrap();
    port.configure(&PortConfig::default(), &pool).unwrap();
    let mut queues = port.start().unwrap();
    // In the worst order: the library's handle first, the queues last, with frames inside.
    drop(eal);
    queues[0].transmit(&mut burst_of(&pool, 9));
    drop(pool);
    drop(port);
    let mut burst = Burst::new();
    queues[0].receive(&mut burst);
    assert_eq!(burst.len(), 9);
    queues[0].recycle(&mut burst);
    drop(queues);
    assert!(matches!(Eal::init(&small()), Err(DpdkError::AlreadyInitialised)));
}

#[test]
#[ignore = "started by another test"]
fn child_fails_to_start() {
    let memory = Memory::Huge { mib: Some(1 << 30) };
    let error = Eal::init(&EalConfig { memory, ..EalConfig::default() }).unwrap_err();
    let DpdkError::Failed(failure) = &error else { panic!("{error}") };
    assert_eq!(failure.operation(), "initialise DPDK");
    assert!(failure.remedy().is_some_and(|remedy| remedy.contains("nr_hugepages")), "{error}");
}

#[test]
#[ignore = "started by another test"]
fn child_passes_a_pcap() {
    let directory = PathBuf::from(std::env::var_os("RUNTIME_DIRECTORY").unwrap());
    let (input, output) = (directory.join("in.pcap"), directory.join("out.pcap"));
    std::fs::write(&input, pcap(&[b"first frame", b"second frame"])).unwrap();
    let vdev = format!("net_pcap0,rx_pcap={},tx_pcap={}", input.display(), output.display());
    let eal = Eal::init(&EalConfig { vdevs: vec![vdev], ..small() }).unwrap();
    let config = PoolConfig { name: "p".into(), mbufs: 255, cache: 0, mtu: 1500, socket: None };
    let pool = Mempool::create(&eal, config).unwrap();
    let mut port = Port::open(&eal, "net_pcap0").unwrap();
    port.configure(&PortConfig::default(), &pool).unwrap();
    let mut queues = port.start().unwrap();
    let mut burst = Burst::new();
    queues[0].receive(&mut burst);
    let frames: Vec<&[u8]> = burst.iter().map(Frame::bytes).collect();
    assert_eq!(frames, [&b"first frame"[..], b"second frame"]);
    assert!(burst[1].grow_front(2));
    burst[1].bytes_mut()[..2].copy_from_slice(b"a ");
    queues[0].transmit(&mut burst);
    assert!(burst.is_empty());
    drop((queues, port));
    assert!(pool.all_back());
    assert!(std::fs::read(output).unwrap().ends_with(b"a second frame"));
}

/// A capture file of Ethernet frames, all at time zero.
fn pcap(frames: &[&[u8]]) -> Vec<u8> {
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1];
    let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend([0, 0, len, len].iter().flat_map(|word| word.to_le_bytes()));
        file.extend_from_slice(frame);
    }
    file
}

/// Keeps every event as "LEVEL target message".
struct Recorder;

impl<S: tracing::Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = format!("{} {}", event.metadata().level(), event.metadata().target());
        event.record(&mut Message(&mut line));
        LOG.lock().unwrap().push(line);
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, " {value:?}").unwrap();
        }
    }
}
