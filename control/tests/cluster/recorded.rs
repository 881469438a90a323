//! What a real API server's watches say of a Node and a ServiceCIDR, from their beginning to their end.

use std::time::Instant;

use control::assembly::Assembly;
use control::object::{Node, Object, ServiceCidr};
use control::source::{Change, Event};
use serde_json::Value;

use crate::support::{assembly, problems, settings};

/// The events of one recorded watch: type and object.
fn events(file: &str, watch: u64) -> Vec<(String, Value)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/transcripts");
    let text = std::fs::read_to_string(format!("{folder}/{file}.jsonl")).expect("a recording");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_watch = lines.filter(|line| line["id"] == watch && line["event"].is_object());
    let event = |mut line: Value| {
        let kind = line["event"]["type"].as_str().expect("a type").to_owned();
        (kind, line["event"]["object"].take())
    };
    of_watch.map(event).collect()
}

/// What is told after each event, without repetitions.
fn told(
    assembly: &mut Assembly,
    events: Vec<(String, Value)>,
    read: impl Fn(Value) -> Object,
    tell: impl Fn(&Assembly) -> String,
) -> Vec<String> {
    let mut told = Vec::new();
    for (kind, object) in events {
        let object = read(object);
        let event = match kind.as_str() {
            "DELETED" => Event::Delete(object.key()),
            _ => Event::Apply(Change::of(object)),
        };
        assembly.take(event, Instant::now());
        told.push(tell(assembly));
    }
    told.dedup();
    assert_eq!(problems(assembly), [""; 0]);
    told
}

#[test]
fn hck_12_top_9_the_life_of_a_node() {
    let read = |object: Value| {
        let node = serde_json::from_value(object).expect("a Node");
        let parsed = Node::parse(&node).expect("named");
        assert_eq!(parsed.problems, []);
        Object::Node(parsed.object)
    };
    let mut assembly = assembly(settings("{nodeName: node3}"));
    // The watch of this node alone.
    let told = told(&mut assembly, events("20-nodes", 3), read, |assembly| {
        assembly.node_facts().expect("it has a name").to_string()
    });
    let addresses = "node3, 192.168.50.3, fd00:50::3, 198.51.100.3";
    assert_eq!(
        told,
        [
            "node3, no known address, zone z1".to_owned(),
            format!("{addresses}, zone z1"),
            format!("{addresses}, zone z3"),
            format!(
                "{addresses}, zone z3; leaving: the cluster autoscaler is about to delete the node"
            ),
            "node3, no known address, in no zone; there is no Node object of this name".to_owned(),
        ]
    );
}

#[test]
fn rej_10_a_range_counts_until_it_is_gone() {
    let read = |object: Value| {
        let ranges = serde_json::from_value(object).expect("a ServiceCIDR");
        let parsed = ServiceCidr::parse(&ranges).expect("named");
        assert_eq!(parsed.problems, []);
        Object::ServiceCidr(parsed.object)
    };
    let mut assembly = assembly(settings("{serviceCIDRs: [10.96.0.0/16]}"));
    let events = events("21-servicecidr", 2);
    let deleting = |event: &(String, Value)| event.1["metadata"]["deletionTimestamp"].is_string();
    assert!(events.iter().filter(|event| deleting(event)).count() > 1, "it waits for its end");
    let told = told(&mut assembly, events, read, |assembly| {
        let ranges = &assembly.settings().service_cidrs;
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    });
    assert_eq!(told, ["10.96.0.0/16 10.97.0.0/24", "10.96.0.0/16"]);
}
