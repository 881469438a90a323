//! What several tests share: tables as text, a control loop with a worker, and an API server.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod fake_api;
pub(crate) mod follow;

use std::time::{Duration, Instant};

use control::assembly::Assembly;
use control::control::{Control, Handle};
use control::publish::TablesPublisher;
use control::settings::Settings;
use control::source::Event;
use dataplane::fib::{Fib, FibSpec};
use dataplane::hash::HashKey;
use dataplane::service::{FrontendAt, ServicePort, ServiceTable};
use dataplane::snapshot;
use dataplane::tables::{Node, Tables};
use tokio::task::LocalSet;

pub(crate) fn settings(yaml: &str) -> Settings {
    serde_saphyr::from_str(yaml).expect("valid settings")
}

pub(crate) fn assembly(settings: Settings) -> Assembly {
    Assembly::new(settings, HashKey::new(7))
}

pub(crate) fn take(assembly: &mut Assembly, events: Vec<Event>) -> bool {
    for event in events {
        assembly.take(event, Instant::now());
    }
    assembly.build_all().is_some()
}

/// Every row in a line, sorted: `name/protocol frontends -> cluster list | local list`.
pub(crate) fn rows(assembly: &Assembly) -> Vec<String> {
    let mut rows: Vec<String> = assembly.writer().all_rows().map(row).collect();
    rows.sort();
    rows
}

fn row(row: &ServicePort) -> String {
    let frontends = row.frontends.iter().map(|frontend| match frontend.at {
        FrontendAt::Address(at) => at.to_string(),
        FrontendAt::NodePort { v4, port } => format!("{}:{port}", if v4 { "np4" } else { "np6" }),
    });
    let list = |list: &[std::net::SocketAddr]| {
        list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let mut text = format!(
        "{}/{} {} -> {}",
        row.name,
        row.protocol.name(),
        frontends.collect::<Vec<_>>().join(" "),
        list(&row.cluster)
    );
    if let Some(local) = row.internal_local.as_ref().or(row.external_local.as_ref()) {
        text += &format!(" | {}", list(local));
    }
    if !row.has_endpoints {
        text += "nobody";
    }
    text
}

pub(crate) fn problems(assembly: &Assembly) -> Vec<String> {
    assembly.problems().map(ToString::to_string).collect()
}

/// The control loop, and a worker that looks for new tables all the time. Runs while the set is polled.
pub(crate) fn start(settings: Settings) -> (Handle, LocalSet) {
    let tasks = LocalSet::new();
    (start_on(&tasks, settings), tasks)
}

/// The same, on a set there is.
pub(crate) fn start_on(tasks: &LocalSet, settings: Settings) -> Handle {
    let key = HashKey::new(1);
    let first = Tables {
        services: ServiceTable::new(key),
        fib: Fib::new(&FibSpec::default()).into(),
        node: Node::default().into(),
    };
    let (publisher, mut readers) = snapshot::channel(first.clone(), 1);
    let publisher = TablesPublisher::new(publisher, first);
    let (control, handle) = Control::new(Assembly::new(settings, key), publisher);
    tasks.spawn_local(control.run());
    tasks.spawn_local(async move {
        loop {
            readers[0].refresh();
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
    });
    handle
}
