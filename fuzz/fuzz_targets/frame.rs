//! Any bytes as a frame, at a gateway with Services and connections: no panic, no frame lost, nothing left for a VIP.
//!
//!     cargo +nightly fuzz run frame -- -max_len=1600 -detect_leaks=0
//!
//! The gateway stays, so that later frames meet what earlier ones left; its tables are bounded. They are never freed
//! (workers live as long as the process), which a leak detector would hold against them.

#![no_main]

use std::cell::RefCell;

use dataplane::flow::Protocol::{Tcp, Udp};
use libfuzzer_sys::fuzz_target;

#[path = "../../dataplane/tests/support/mod.rs"]
mod support;

use support::gateway::{FAMILIES, Fate, Gateway, IN, OUT, Service, Setup};

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::new(gateway());
}

fn gateway() -> Gateway {
    let mut gateway = Gateway::new(Setup { workers: 2, ..Setup::default() });
    gateway.judged = false;
    for f in FAMILIES {
        let rows = [Tcp, Udp].map(|protocol| {
            Service::new("ns/web:80", protocol, &[(f.backends[0], 8080), (f.backends[1], 8080)])
                .cluster_ip(f.cluster_ip, 80)
                .load_balancer(f.load_balancer, 80, &[])
                .node_port(f.v4, 30_080)
        });
        gateway.apply(f.client, &rows);
    }
    gateway
}

fuzz_target!(|input: &[u8]| {
    let Some((&how, frame)) = input.split_first() else { return };
    GATEWAY.with_borrow_mut(|gateway| {
        let before = gateway.totals();
        let port = if how & 1 == 0 { OUT } else { IN };
        if how & 2 == 0 {
            gateway.put(usize::from(how >> 2 & 1), port, frame);
        } else {
            gateway.put_injected(port, frame);
        }
        gateway.now = gateway.now.after(u64::from(how >> 3));
        gateway.poll();
        let fates = gateway.collect_mixed(&before);
        assert!(fates.iter().any(|fate| !matches!(fate, Fate::Parked)) || fates.len() == 1);
    });
});
