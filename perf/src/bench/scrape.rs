//! What a running vipgate tells at `/metrics`.

use std::io::{self, Read, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// Where a gateway under test answers, in a network namespace of the benchmark's.
pub(super) const HTTP: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 10256);
const ANSWER: Duration = Duration::from_secs(5);

/// All metrics, from the calling thread's network namespace.
pub(super) fn metrics() -> io::Result<String> {
    let mut stream = TcpStream::connect(HTTP)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The first value of a metric with this label value.
pub(super) fn value(metrics: &str, name: &str, label: &str) -> Option<u64> {
    let label = format!("\"{label}\"");
    let mut lines = metrics.lines();
    let is_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(&label))
    };
    lines.find(is_it)?.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_name_and_label() {
        let text = "\
# TYPE vipgate_worker_cycles counter
vipgate_worker_cycles_total{worker=\"0\",state=\"busy\"} 17
vipgate_worker_cycles_total{worker=\"0\",state=\"idle\"} 5
";
        assert_eq!(value(text, "vipgate_worker_cycles_total", "idle"), Some(5));
        assert_eq!(value(text, "vipgate_worker_cycles", "idle"), None);
    }
}
