//! Start, status, end and crash of the gateway.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{connect, request};
use crate::gateway::get;
use crate::service::{Policy, Service, TALK};
use crate::site::{Layout, Ports, Site, until};

/// Connections that are kept open over a crash.
const KEPT: usize = 20;

#[test]
fn sigterm_ends_it_without_a_trace() {
    let services = services();
    for ports in [Ports::Tap, Ports::AfPacket] {
        let Some(mut site) = Site::new(Layout { ports, ..Layout::default() }, &services) else {
            return;
        };
        for vip in services.iter().flat_map(Service::vips) {
            site.client.run(|| request(&vip)).unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        }
        let begin = Instant::now();
        let gateway = site.gateway.take().expect("it runs");
        // Its status says whether every packet buffer came back.
        assert_eq!(gateway.stop().code(), Some(0), "{ports:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(!site.socket().exists(), "the admin socket is left");
        let left = site.node.ip("-o link show type tun");
        assert_eq!(left, "", "kernel twins are left");
        if ports == Ports::Tap {
            assert_eq!(site.client.ip("-o link show type tun"), "", "ports are left");
        }
    }
}

/// CTK-11, SYN-9: without masquerade a connection needs nothing that was only in the process's memory.
#[test]
fn connections_outlive_a_killed_gateway() {
    let services = services();
    // Packet sockets: the links stay when the process goes.
    let layout = Layout { ports: Ports::AfPacket, ..Layout::default() };
    let Some(mut site) = Site::new(layout, &services) else { return };
    let vips = services[1].balanced();
    let mut connections = site.client.run(|| {
        let open = |index: usize| {
            let mut stream = connect(vips[index % 2].at(&TALK)).expect("a backend lives");
            let backend = ask(&mut stream).expect("it answers");
            (stream, backend)
        };
        (0..KEPT).map(open).collect::<Vec<_>>()
    });
    let gateway = site.gateway.take().expect("it runs");
    gateway.kill();
    site.start_gateway();
    site.wait();
    for (stream, backend) in &mut connections {
        let again = ask(stream).expect("the connection goes on");
        assert_eq!(again, *backend);
    }
}

#[test]
fn it_is_ready_with_links_and_tells_its_status() {
    let services = services();
    for ports in [Ports::AfPacket, Ports::BridgedTap] {
        let Some(site) = Site::new(Layout { ports, ..Layout::default() }, &services) else {
            return;
        };
        until(Duration::from_secs(5), "it is ready", || {
            get(&site.node, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200 "))
        });
        for vip in services.iter().flat_map(Service::balanced) {
            site.client.run(|| request(&vip)).unwrap_or_else(|error| panic!("{vip:?}: {error}"));
        }
        site.client.output(2, "ping -c1 -W1 198.51.100.200");
        let (code, text) = site.status("json");
        assert_eq!(code, Some(0), "{text}");
        let status: Value = serde_json::from_str(&text).expect("it is JSON");
        let names = |list: &str| -> Vec<String> {
            let list = status[list].as_array().cloned().unwrap_or_default();
            list.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
        };
        assert!(names("services").contains(&"default/kept:http".to_owned()), "{text}");
        assert_eq!(names("ports"), ["out", "in"], "{text}");
        assert_eq!(status["workers"].as_array().map(Vec::len), Some(2), "{text}");
        assert!(text.contains("no_route"), "a ping to nowhere was dropped: {text}");
        let (code, table) = site.status("table");
        assert_eq!(code, Some(0), "{table}");
        for part in ["default/kept:http", "out", "in", "no_route"] {
            assert!(table.contains(part), "no `{part}` in:\n{table}");
        }
    }
}

/// One line there and back; who answers.
fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    // TCP's own patience: the gateway was away for some seconds.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"hello\n")?;
    let mut buffer = [0; 64];
    let length = stream.read(&mut buffer)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    let backend = text.strip_suffix(" hello\n");
    backend.map(str::to_owned).ok_or_else(|| std::io::Error::other(text.into_owned()))
}

fn services() -> [Service; 2] {
    [Service::new("shared", 10, Policy::Cluster), Service::new("kept", 20, Policy::Local)]
}
