//! Which endpoints a policy may use.

use crate::world::{NODE_PORT, PORT, TWO, world};

const CLUSTER: &str = "outside -> 172.30.0.41:80";
const EXTERNAL: &str = "outside -> 192.0.2.10:30080";

#[test]
fn sel_1_sel_2_sel_3_each_policy_has_its_list() {
    for (policies, cluster, external) in [
        ("", "dnat 10.0.1.2:8080* 10.0.1.3:8080*", "dnat 10.0.1.2:8080* 10.0.1.3:8080*"),
        (
            "internalTrafficPolicy: Local,",
            "dnat 10.0.1.2:8080*",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
        ),
        (
            "externalTrafficPolicy: Local,",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
            "dnat 10.0.1.2:8080",
        ),
        (
            "internalTrafficPolicy: Local, externalTrafficPolicy: Local,",
            "dnat 10.0.1.2:8080*",
            "dnat 10.0.1.2:8080",
        ),
    ] {
        let w = world()
            .service("web", &format!("clusterIP: 172.30.0.41, {policies} {NODE_PORT}"))
            .slice("web", TWO);
        w.check(&[(CLUSTER, cluster), (EXTERNAL, external)]);
    }
}

#[test]
fn sel_2_internal_local_keeps_a_cluster_list_for_those_who_come_in_short_circuit() {
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, externalTrafficPolicy: Local, {NODE_PORT}"))
        .slice("web", "10.0.1.3@there")
        .check(&[
            ("pod -> 192.0.2.10:30080", "dnat 10.0.1.3:8080"),
            ("pod -> 172.30.0.41:80", "drop no_local_endpoint_internal"),
        ]);
}

#[test]
fn sel_4_sel_5_sel_6_fallbacks_to_draining_endpoints_are_independent() {
    let spec = format!("clusterIP: 172.30.0.41, externalTrafficPolicy: Local, {NODE_PORT}");
    for (endpoints, cluster, external) in [
        ("10.0.1.2@here!st 10.0.1.3@there", "dnat 10.0.1.3:8080*", "dnat 10.0.1.2:8080"),
        ("10.0.1.2@here 10.0.1.3@there!st", "dnat 10.0.1.2:8080*", "dnat 10.0.1.2:8080"),
        (
            "10.0.1.2@here!st 10.0.1.3@there!st",
            "dnat 10.0.1.2:8080* 10.0.1.3:8080*",
            "dnat 10.0.1.2:8080",
        ),
        ("10.0.1.3@there!st", "dnat 10.0.1.3:8080*", "drop no_local_endpoint_external"),
    ] {
        world()
            .service("web", &spec)
            .slice("web", endpoints)
            .check(&[(CLUSTER, cluster), (EXTERNAL, external)]);
    }
}

#[test]
fn sel_7_an_endpoint_anywhere_turns_a_refusal_into_silence() {
    let spec = format!("clusterIP: 172.30.0.41, internalTrafficPolicy: Local, {PORT}");
    for (endpoints, expected) in [
        ("10.0.1.3@there", "drop no_local_endpoint_internal"),
        ("10.0.1.3", "drop no_local_endpoint_internal"),
        ("10.0.1.3@there!st", "drop no_local_endpoint_internal"),
        ("10.0.1.3@there!s", "reject no_endpoints"),
        ("10.0.1.2@here! 10.0.1.3@there!t", "reject no_endpoints"),
        ("", "reject no_endpoints"),
    ] {
        world().service("web", &spec).slice("web", endpoints).check(&[(CLUSTER, expected)]);
    }
}

#[test]
fn sel_8_not_ready_is_not_usable_even_if_it_serves() {
    for (endpoints, expected) in [
        ("10.0.1.2!s", "reject no_endpoints"),
        ("10.0.1.2!", "reject no_endpoints"),
        ("10.0.1.2!s 10.0.1.3!st", "dnat 10.0.1.3:8080*"),
        ("10.0.1.2!s 10.0.1.3", "dnat 10.0.1.3:8080*"),
    ] {
        world()
            .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
            .slice("web", endpoints)
            .check(&[(CLUSTER, expected)]);
    }
}

#[test]
fn sel_9_the_choice_is_spread_evenly_over_new_connections() {
    let w = world()
        .service("web", &format!("clusterIP: 172.30.0.41, {PORT}"))
        .slice("web", "10.0.1.2 10.0.1.3 10.0.1.4 10.0.1.5");
    let flows: Vec<String> = (0..800)
        .map(|i| format!("10.0.{}.{} -> 172.30.0.41:80", 100 + i / 200, 1 + i % 200))
        .collect();
    let flows: Vec<&str> = flows.iter().map(String::as_str).collect();
    let mut counts = std::collections::BTreeMap::new();
    for told in w.ask(&flows) {
        *counts.entry(told.chosen.expect("translated")).or_insert(0) += 1;
    }
    // 200 each; six standard deviations of a fair choice are 73.
    assert!(counts.len() == 4 && counts.values().all(|n| (127..=273).contains(n)), "{counts:?}");
}

#[test]
fn sel_10_ready_wins_over_terminating() {
    world()
        .service("web", &format!("clusterIP: 172.30.0.41, publishNotReadyAddresses: true, {PORT}"))
        .slice("web", "10.0.1.2!rt 10.0.1.3!r 10.0.1.4!rst")
        .check(&[(CLUSTER, "dnat 10.0.1.2:8080* 10.0.1.3:8080* 10.0.1.4:8080*")]);
}
