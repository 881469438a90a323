//! The books: every frame the workers got must have become something.
//!
//! Read from `/metrics`, as a monitoring system would, in one piece.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Where the gateway answers by default.
const METRICS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 10256);
/// Counters move for a moment after the last request: how long they may.
const QUIET: Duration = Duration::from_secs(1);

/// Frames, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ledger {
    pub(super) received: u64,
    pub(super) from_kernel: u64,
    pub(super) sent: u64,
    pub(super) to_kernel: u64,
    pub(super) dropped: u64,
    pub(super) waiting: u64,
}

impl Ledger {
    /// The books at a quiet moment.
    pub(super) fn read() -> io::Result<Self> {
        let begin = Instant::now();
        loop {
            let ledger = Self::of(&metrics()?);
            if ledger.balances() || begin.elapsed() > QUIET {
                return Ok(ledger);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Whether nothing is missing.
    pub(super) fn balances(&self) -> bool {
        let Self { received, from_kernel, sent, to_kernel, dropped, waiting } = self;
        *received > 0 && received + from_kernel == sent + to_kernel + dropped + waiting
    }

    fn of(metrics: &str) -> Self {
        let sum = |name: &str, label: &str| {
            let rows = metrics.lines().filter_map(|line| {
                let rest = line.strip_prefix("vipgate_")?.strip_prefix(name)?;
                let (labels, value) = rest.rsplit_once(' ')?;
                let whole = labels.is_empty() || labels.starts_with('{');
                (whole && labels.contains(label)).then(|| value.parse::<f64>().ok())?
            });
            let sum = rows.sum::<f64>();
            #[expect(clippy::cast_possible_truncation, reason = "counts, below 2^53")]
            #[expect(clippy::cast_sign_loss, reason = "counts")]
            let sum = sum as u64;
            sum
        };
        Self {
            received: sum("port_rx_packets_total", ""),
            from_kernel: sum("worker_injected_packets_total", ""),
            sent: sum("port_tx_packets_total", ""),
            to_kernel: sum("worker_packets_total", "outcome=\"punted\""),
            dropped: sum("drop_packets_total", ""),
            waiting: sum("worker_parked_packets", "") + sum("worker_held_packets", ""),
        }
    }
}

fn metrics() -> io::Result<String> {
    let mut stream = TcpStream::connect(METRICS)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_become_books() {
        let text = "\
# TYPE vipgate_port_rx_packets counter
vipgate_port_rx_packets_total{port=\"outside\"} 12
vipgate_port_rx_packets_total{port=\"inside\"} 8
vipgate_port_tx_packets_total{port=\"outside\"} 15
vipgate_worker_injected_packets_total{worker=\"0\",core=\"1\"} 2
vipgate_worker_packets_total{worker=\"0\",outcome=\"forwarded\"} 9
vipgate_worker_packets_total{worker=\"0\",outcome=\"punted\"} 3
vipgate_worker_parked_packets{worker=\"0\"} 1
vipgate_worker_held_packets{worker=\"0\"} 2
vipgate_drop_packets_total{reason=\"martian\"} 1
";
        let ledger = Ledger::of(text);
        let expected =
            Ledger { received: 20, from_kernel: 2, sent: 15, to_kernel: 3, dropped: 1, waiting: 3 };
        assert_eq!(ledger, expected);
        assert!(ledger.balances());
        assert!(!Ledger { dropped: 0, ..ledger }.balances());
        assert!(!Ledger::default().balances(), "no traffic is no proof");
    }
}
