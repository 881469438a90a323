//! `vipgate status` for people: one screen of at most 100 columns.

use std::fmt::Write;

use super::status::{PortStatus, ServiceStatus, Status, WorkerStatus};

/// Columns of the screen.
const WIDTH: usize = 100;
/// Services shown; those without backends come first, then those with one-way connections.
const SERVICES: usize = 20;
/// Problems shown.
const PROBLEMS: usize = 5;

/// The whole screen, with a line end.
#[must_use]
pub fn render(status: &Status) -> String {
    let mut screen = String::new();
    let mut line = |text: String| {
        screen.extend(text.chars().take(WIDTH));
        screen.push('\n');
    };
    for text in head(status) {
        line(text);
    }
    for (title, rows) in tables(status) {
        line(String::new());
        for row in aligned(&title, &rows) {
            line(row);
        }
    }
    let hidden = status.services.len().saturating_sub(SERVICES);
    if hidden > 0 {
        line(format!("... and {hidden} more: `-o json` shows all"));
    }
    screen
}

fn head(status: &Status) -> Vec<String> {
    let state = if status.not_ready.is_empty() { "ready" } else { "NOT READY" };
    let (source, tables) = (&status.source, &status.tables);
    let mut lines = vec![format!(
        "vipgate {}   up {}   {state}",
        status.version,
        duration(status.uptime_seconds)
    )];
    lines.extend(status.not_ready.iter().map(|check| format!("  {check}")));
    let mut text = format!("source       {}", source.state);
    if source.state == "stale" {
        let _ = write!(text, " for {}", duration(source.stale_seconds));
    }
    if let Some(error) = &source.error {
        let _ = write!(text, ": {error}");
    }
    lines.push(text);
    lines.extend(status.node.as_ref().map(|node| format!("node         {node}")));
    lines.push(format!(
        "tables       {} services, {} endpoints; generation {}, all workers at {}, {} retired",
        count(tables.services as u64),
        count(tables.endpoints as u64),
        tables.generation,
        tables.acknowledged,
        tables.retired
    ));
    let all = &status.connections;
    lines.push(format!(
        "connections  {} of {} ({} half open), {} made, {} expired, {} evicted",
        count(all.entries),
        count(all.capacity),
        count(all.half_open),
        count(all.created),
        count(all.expired),
        count(all.evicted)
    ));
    for pool in &status.pools {
        lines.push(format!(
            "buffers      {}: {} of {} free",
            pool.name,
            count(pool.free),
            count(pool.size)
        ));
    }
    if source.problem_count > 0 {
        lines.push(format!("problems     {}", source.problem_count));
        let shown = source.problems.iter().take(PROBLEMS);
        lines.extend(shown.flat_map(|problem| wrapped(problem)));
    }
    lines
}

type Table = (Vec<&'static str>, Vec<Vec<String>>);

fn tables(status: &Status) -> Vec<Table> {
    let mut tables = vec![
        (
            vec![
                "PORT", "DRIVER", "MAC", "MTU", "LINK", ">RX", ">BYTES", ">TX", ">BYTES",
                ">MISSED", ">NOBUF", ">ERRORS",
            ],
            status.ports.iter().map(port).collect(),
        ),
        (
            vec![
                "WORKER",
                "CORE",
                ">BUSY",
                ">BURST",
                ">POLLS",
                ">CONNS",
                ">ROOM",
                ">HALF-OPEN",
                ">HANDED",
                ">PUNTED",
            ],
            status.workers.iter().enumerate().map(worker).collect(),
        ),
    ];
    if !status.drops.is_empty() {
        let drop = |drop: &super::DropCount| vec![drop.reason.clone(), count(drop.packets)];
        tables.push((vec!["DROPPED", ">PACKETS"], status.drops.iter().map(drop).collect()));
    }
    if !status.services.is_empty() {
        let mut services: Vec<&ServiceStatus> = status.services.iter().collect();
        services.sort_by_key(|service| (service.backends > 0, service.one_way == 0, &service.name));
        let rows = services.into_iter().take(SERVICES).map(service).collect();
        let title = vec!["SERVICE", ">BACKENDS", ">OPENED", ">REFUSED", ">ONE-WAY", "FRONTENDS"];
        tables.push((title, rows));
    }
    tables
}

fn port(port: &PortStatus) -> Vec<String> {
    let link = match (port.link_up, port.link_mbps) {
        (false, _) => "DOWN".to_owned(),
        (true, None) => "up".to_owned(),
        (true, Some(mbps)) if mbps >= 1000 => format!("{}G", mbps / 1000),
        (true, Some(mbps)) => format!("{mbps}M"),
    };
    vec![
        short(&port.name, 12),
        short(port.driver.trim_start_matches("net_"), 11),
        port.mac.clone(),
        port.mtu.to_string(),
        link,
        count(port.rx_packets),
        count(port.rx_bytes),
        count(port.tx_packets),
        count(port.tx_bytes),
        count(port.missed),
        count(port.no_buffer),
        count(port.rx_errors + port.tx_errors),
    ]
}

fn worker((id, worker): (usize, &WorkerStatus)) -> Vec<String> {
    let busy = match worker.polling {
        Some(false) => "STUCK".to_owned(),
        _ => format!("{:.1}%", worker.busy_percent),
    };
    vec![
        id.to_string(),
        worker.core.to_string(),
        busy,
        format!("{:.1}", worker.packets_per_burst),
        count(worker.polls),
        count(worker.connections),
        count(worker.capacity),
        count(worker.half_open),
        count(worker.handed_over),
        count(worker.punted),
    ]
}

fn service(service: &ServiceStatus) -> Vec<String> {
    let shown = service.frontends.iter().take(2).cloned().collect::<Vec<_>>().join(", ");
    let more = match service.frontends.len() {
        0..=2 => String::new(),
        all => format!(", +{}", all - 2),
    };
    vec![
        short(&service.name, 40),
        service.backends.to_string(),
        count(service.connections),
        count(service.refused),
        count(service.one_way),
        shown + &more,
    ]
}

/// A text indented by two, its further lines by four: the remedy stands at the end, and must not be cut off.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from(" ");
    for word in text.split_whitespace() {
        let is_full = line.chars().count() + 1 + word.chars().count() > WIDTH;
        if is_full && !line.trim_start().is_empty() {
            lines.push(std::mem::replace(&mut line, "   ".into()));
        }
        line.push(' ');
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// Rows under a title in columns of equal width; `>` before a title puts the column to the right.
fn aligned(title: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let names: Vec<String> =
        title.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&names]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let format_row = |row: &Vec<String>| {
        let cells = row.iter().zip(title).zip(&widths).map(|((cell, name), &width)| {
            if name.starts_with('>') {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    [&names].into_iter().chain(rows).map(format_row).collect()
}

/// At most `max` letters.
fn short(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// At most five letters: `999`, `1.23k`, `45.6M`, `789G`.
fn count(n: u64) -> String {
    const UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut value, mut unit) = (n as f64, 0);
    // 999.5 and more would be printed as 1000.
    while value >= 999.5 {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 || value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// The two largest units: `3d4h`, `12m5s`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_go_on_in_the_next_line() {
        assert_eq!(wrapped("short"), ["  short"]);
        let word = "x".repeat(WIDTH - 2);
        assert_eq!(wrapped(&word), [format!("  {word}")]);
        let [long, end] = ["y".repeat(WIDTH), "remedy".to_owned()];
        assert_eq!(
            wrapped(&format!("{word} {long} {end}")),
            [format!("  {word}"), format!("    {long}"), format!("    {end}")]
        );
    }

    #[test]
    fn counts_fit_five_letters() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1.00k"),
            (9_994, "9.99k"),
            (9_996, "10.0k"),
            (99_960, "100k"),
            (999_499, "999k"),
            (999_500, "1.00M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
            assert!(text.len() <= 5);
        }
    }

    #[test]
    fn durations_name_two_units() {
        let texts = [59, 60, 3599, 3600, 86_399, 90_000].map(duration);
        assert_eq!(texts, ["59s", "1m0s", "59m59s", "1h0m", "23h59m", "1d1h"]);
    }
}
