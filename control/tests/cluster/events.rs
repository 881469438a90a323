//! Events: what owners of objects are told, by an API server that wants to hear it and by others.

use std::time::Duration;

use control::events::{self, Cause, Counters};
use serde_json::Value;
use tokio::time;

use crate::support::fake_api::FakeApi;
use crate::{HINTED, gateway, until};

/// Another Service with the cluster IP of `a`, and a slice of `a` with endpoints that can't be any.
const BAD: &str = "
{apiVersion: v1, kind: Service, metadata: {name: b, creationTimestamp: '2026-01-02T00:00:00Z'},
  spec: {clusterIP: 10.96.0.1, externalIPs: [203.0.113.9], ports: [{name: http, port: 80}, {name: bad, port: 0}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a-y, labels: {kubernetes.io/service-name: a}},
  addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [169.254.169.254]}, {addresses: [10.96.0.7]}]}
";

const SETTINGS: &str =
    "{nodeName: n1, serviceCIDRs: [10.96.0.0/16], allowedExternalIPs: [198.51.100.0/24]}";

/// What was posted: object, reason and the beginning of the note, sorted.
fn told(api: &FakeApi) -> Vec<String> {
    let events = api.objects("Event", Some("events.k8s.io/v1"));
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let line = |event: &Value| {
        let regarding = &event["regarding"];
        let note = text(event, "note");
        let words: Vec<&str> = note.split(' ').take(4).collect();
        format!(
            "{} {}: {}: {}",
            text(regarding, "kind"),
            text(regarding, "name"),
            text(event, "reason"),
            words.join(" ")
        )
    };
    let mut told: Vec<String> = events.iter().map(line).collect();
    told.sort();
    told
}

fn dropped(counters: &Counters, cause: Cause) -> u64 {
    counters.dropped().find(|(other, _)| *other == cause).map_or(0, |(_, count)| count)
}

#[tokio::test]
async fn owners_are_told_what_is_wrong_once() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(BAD);
    gateway(&url, SETTINGS, async |handle, counters| {
        until(async || counters.sent() >= 5).await;
        let expected = [
            "EndpointSlice a-y: EndpointRejected: endpoints: 10.96.0.7 is a",
            "EndpointSlice a-y: EndpointRejected: endpoints[0].addresses[0]: 169.254.169.254 can't be",
            "Service b: InvalidObject: spec.ports[1].port: 0 is not",
            "Service b: VipConflict: tcp 10.96.0.1:80 belongs to",
            "Service b: VipNotAllowed: spec.externalIPs: 203.0.113.9 is not",
        ];
        assert_eq!(told(&api), expected);
        for event in api.objects("Event", Some("events.k8s.io/v1")) {
            let about = &event["regarding"];
            let kind = about["kind"].as_str().expect("a kind");
            let objects = api.objects(kind, about["apiVersion"].as_str());
            let object = objects.iter().find(|object| object["metadata"]["name"] == about["name"]);
            // `kubectl describe` looks for it.
            assert_eq!(about["uid"], object.expect("it is there")["metadata"]["uid"], "{event}");
            assert_eq!(event["metadata"]["namespace"], "demo");
            assert_eq!(event["type"], "Warning");
            assert_eq!(event["reportingController"], "vipgate.io/gateway");
            assert_eq!(event["reportingInstance"], "n1");
            for needed in ["eventTime", "action"] {
                assert!(event[needed].as_str().is_some_and(|text| !text.is_empty()), "{event}");
            }
        }
        // The same again, and what comes of a relist, is no news.
        api.apply(BAD);
        api.compact();
        api.cut();
        time::sleep(Duration::from_secs(3)).await;
        assert_eq!((counters.sent(), told(&api).len()), (5, 5));
        assert_eq!(handle.status().problem_count, 5);
    })
    .await;

    // A process that starts anew counts on in what it finds.
    gateway(&url, SETTINGS, async |_, counters| {
        until(async || counters.sent() >= 5).await;
        let events = api.objects("Event", Some("events.k8s.io/v1"));
        assert_eq!(events.len(), 5);
        assert!(events.iter().all(|event| event["series"]["count"] == 2), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_service_without_endpoints_is_told_of_after_a_while() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply("{apiVersion: v1, kind: Service, metadata: {name: empty}, spec: {clusterIP: 10.96.0.2, ports: [{name: dns, port: 53, protocol: UDP}]}}");
    api.apply("{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{name: dns, port: 53}]}}");
    gateway(&url, "{}", async |_, counters| {
        until(async || counters.sent() > 0).await;
        assert_eq!(told(&api), ["Service empty: NoReadyEndpoints: no endpoint of udp"]);
        let [event] = &api.objects("Event", Some("events.k8s.io/v1"))[..] else { unreachable!() };
        let note = "no endpoint of udp port dns over IPv4 is ready: new connections are refused";
        assert_eq!(event["note"], note);
    })
    .await;
}

#[tokio::test]
async fn refused_events_are_counted_and_hold_up_nothing() {
    let (api, url) = FakeApi::start().await;
    api.apply(HINTED);
    api.apply(BAD);
    // It says so only when it is asked to take one.
    api.faults(|faults| faults.unknown = Some("events"));
    gateway(&url, SETTINGS, async |handle, counters| {
        until(async || dropped(&counters, Cause::Refused) == 5).await;
        api.apply(&HINTED.replace("10.0.0.2", "10.0.0.3"));
        handle.wait_for(|status| status.generation > 2).await.expect("runs");
        assert_eq!(counters.sent(), 0);
    })
    .await;
}

#[tokio::test]
async fn more_than_can_be_told_is_counted() {
    let mut assembly = crate::support::assembly(crate::support::settings("{}"));
    let services: String = (0..30)
        .map(|n| {
            format!("{{apiVersion: v1, kind: Service, metadata: {{name: s{n:02}}}, spec: {{clusterIP: 10.96.0.{n}, ports: [{{port: 80}}]}}}}\n---\n")
        })
        .collect();
    let settings = assembly.settings().clone();
    let mut manifests = control::source::manifests::Manifests::new("unused", &settings);
    let before = assembly.findings_version();
    crate::support::take(&mut assembly, manifests.load_text("a.yaml", &services));
    let (first, more) = events::findings(&assembly, 20);
    assert_eq!((first.len(), more), (20, 10));
    assert_eq!(first[0].about.to_string(), "Service default/s00");
    assert!(assembly.findings_version() > before);
    let after = assembly.findings_version();
    crate::support::take(
        &mut assembly,
        manifests.load_text("a.yaml", &(services + "# nothing new")),
    );
    assert_eq!(assembly.findings_version(), after);
}
