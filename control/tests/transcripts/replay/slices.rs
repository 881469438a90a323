//! Slices as controllers and people write them.

use super::{KUBERNETES, play};

/// EPS-13, TRM-2, TRM-4, TRM-7: a pod comes, gets ready, drains and goes, as the controller tells it.
#[tokio::test]
async fn eps_13_a_pods_life() {
    let http = |to: &str| format!("demo/web:http/tcp 10.96.100.1:80 -> {to}");
    let dns = |to: &str| format!("demo/web:dns/udp 10.96.100.1:53 -> {to}");
    let nobody = [&*http("nobody"), &*dns("nobody")];
    let first = [&*http("10.244.1.1:8080"), &*dns("10.244.1.1:5353")];
    let second = [&*http("10.244.2.2:8080"), &*dns("10.244.2.2:5353")];
    let both =
        [&*http("10.244.1.1:8080 10.244.2.2:8080"), &*dns("10.244.1.1:5353 10.244.2.2:5353")];
    let steps: [(u32, &[&str]); 11] = [
        (4, &nobody),
        // Not ready.
        (6, &nobody),
        (7, &first),
        (9, &both),
        (10, &first),
        // The first one drains and still serves, the other one is not ready.
        (11, &first),
        (12, &nobody),
        (13, &nobody),
        (14, &second),
        (15, &nobody),
        (0, &[]),
    ];
    play("03", &steps).await;
}

#[tokio::test]
async fn obj_7_a_named_port_has_a_number_in_each_slice() {
    let row =
        |name: &str, from: u16, to: &str| format!("demo/web:{name}/tcp 10.96.100.1:{from} -> {to}");
    let steps: [(u32, &[&str]); 4] = [
        (
            10,
            &[
                &row("http", 80, "10.244.1.1:8081 10.244.1.3:8083 10.244.2.2:8082"),
                &row("metrics", 9090, "10.244.1.1:9090 10.244.1.3:9090 10.244.2.2:9090"),
            ],
        ),
        (
            12,
            &[
                &row("http", 80, "10.244.1.1:8081 10.244.1.3:8083"),
                &row("metrics", 9090, "10.244.1.1:9090 10.244.1.3:9090"),
            ],
        ),
        // One port renamed, the other removed; the endpoints have changed places.
        (13, &[&row("www", 80, "10.244.1.1:8081 10.244.1.3:8083")]),
        (0, &[]),
    ];
    play("04", &steps).await;
}

/// EPS-13: null endpoints and ports, filled, and null again.
#[tokio::test]
async fn eps_13_null_lists_are_empty_ones() {
    let row = |to: &str| format!("demo/empty:http/tcp 10.96.100.3:80 -> {to}");
    let steps: [(u32, &[&str]); 4] =
        [(5, &[&row("nobody")]), (7, &[&row("10.244.1.9:80")]), (9, &[&row("nobody")]), (0, &[])];
    play("05", &steps).await;
}

/// END-2, END-4: what the mirroring controller makes of Endpoints.
#[tokio::test]
async fn end_2_mirrored_slices() {
    let row = |to: &str| format!("demo/manual:http/tcp 10.96.100.30:8080 -> {to}");
    let subsets = row("10.244.9.8:8080 10.244.9.9:8080 10.244.9.11:8080 10.244.9.20:9090");
    let steps: [(u32, &[&str]); 5] = [
        (7, &[&row("10.244.9.8:8080 10.244.9.9:8080")]),
        (8, &[&subsets]),
        (9, &[&row("nobody")]),
        (10, &[&subsets]),
        (0, &[&row("nobody")]),
    ];
    play("11", &steps).await;
}

/// EPS-1, EPS-2, EPS-3, EPS-4, EPS-5: conditions, ports, labels and addresses that only hand-made slices lack or have.
#[tokio::test]
async fn eps_3_slices_made_by_hand() {
    let row = |to: &str| format!("demo/hand:http/tcp 10.96.100.31:8080 -> {to}");
    let both = row("10.244.9.11:8080 10.244.9.12:8080");
    let steps: [(u32, &[&str]); 4] = [
        (10, &[&both]),
        (13, &[&row("10.244.9.11:8080 10.244.9.12:8080 10.244.9.16:8080")]),
        (16, &[&row("10.244.9.16:8080")]),
        (0, &[]),
    ];
    play("13", &steps).await;
}

#[tokio::test]
async fn eps_12_endpoints_in_several_slices() {
    let row = |to: &[&str]| {
        let to: Vec<String> = to.iter().map(|ip| format!("10.244.{ip}:8080")).collect();
        format!("demo/web:http/tcp 10.96.100.1:80 -> {}", to.join(" "))
    };
    let steps: [(u32, &[&str]); 4] = [
        (8, &[&row(&["1.1", "2.2"])]),
        (14, &[&row(&["1.1", "1.3", "1.5", "2.2", "2.4"])]),
        (15, &[&row(&["1.3", "1.5", "2.2", "2.4"])]),
        (0, &[&row(&["1.3", "1.5", "2.2", "2.6"])]),
    ];
    play("32", &steps).await;
}

/// END-5, OBJ-7: what tutorials tell people to write; Endpoints with the ports in the wrong place, and in the right one.
#[tokio::test]
async fn end_5_manifests_of_tutorials() {
    let row = |name: &str, at: &str, to: &str| format!("demo/{name}/tcp {at} -> {to}");
    let pods = "10.244.1.1:8080 10.244.2.2:8080";
    let plain = row("the-service:80", "10.96.100.100:80", pods);
    let node_port = row("the-service-np:80", "10.96.100.101:80 np4:30088", pods);
    let external = row("the-service-xip:80", "10.96.100.102:80 80.11.12.10:80 np4:30089", pods);
    let mongo = |to: &str| row("mongo:27017", "10.96.100.103:27017", to);
    let (wrong, right) = (mongo("nobody"), mongo("35.188.8.12:49763"));
    let steps: [(u32, &[&str]); 2] = [
        (14, &[KUBERNETES, &plain, &node_port, &external, &wrong]),
        (0, &[KUBERNETES, &plain, &node_port, &external, &right]),
    ];
    play("29", &steps).await;
}
