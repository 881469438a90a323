//! Recorded lists and watches played to the Kubernetes source: what rows come of them.
//!
//! Each test plays a file in steps; a step names the request before which it stops (0: the end), and the rows there are then.
//! They were read off the file by hand.

use control::source::kubernetes::Scope;

use super::file::Transcript;
use super::player::Player;
use super::support::follow::{following_all, until_row, until_rows};

/// In all clusters, and without endpoints in the files.
const KUBERNETES: &str = "default/kubernetes:https/tcp 10.96.0.1:443 -> nobody";

async fn play(file: &str, steps: &[(u32, &[&str])]) {
    let (player, url) = Player::start(Transcript::of(file)).await;
    following_all(&url, Scope::All, async |handle| {
        for (id, expected) in steps {
            if let Some(mark) = player.play_until(*id).await {
                until_row(&handle, &mark).await;
            }
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            // Rows may come late: half of a move waits for the other half.
            let good = |rows: &[String]| {
                let rows = rows.iter().filter(|row| !row.starts_with("mark/"));
                rows.map(String::as_str).eq(expected.iter().copied())
            };
            let what = format!("file {file} before request {id}\n{}", expected.join("\n"));
            until_rows(&handle, good, &what).await;
        }
    })
    .await;
}

#[tokio::test]
async fn obj_11_ports_and_addresses_change_while_watched() {
    let dns = "demo/dns:dns/udp 10.96.100.53:53 -> nobody";
    let dns_tcp = "demo/dns:dns-tcp/tcp 10.96.100.53:53 -> nobody";
    let http = "demo/web:http/tcp 10.96.100.1:80 -> nobody";
    let https = "demo/web:https/tcp 10.96.100.1:443 -> nobody";
    let moved = "demo/web:http/tcp 10.96.100.1:8080 -> nobody";
    let again = "demo/web:http/tcp 10.96.100.2:80 -> nobody";
    let steps: [(u32, &[&str]); 7] = [
        (3, &[KUBERNETES]),
        (5, &[KUBERNETES, dns, dns_tcp, http]),
        (6, &[KUBERNETES, dns, dns_tcp, http, https]),
        // Nothing that rows are made of changes.
        (9, &[KUBERNETES, dns, dns_tcp, http, https]),
        (10, &[KUBERNETES, dns, dns_tcp, moved, https]),
        (13, &[KUBERNETES, dns, dns_tcp]),
        (0, &[KUBERNETES, dns, dns_tcp, again]),
    ];
    play("02", &steps).await;
}

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

#[tokio::test]
async fn dua_4_families_come_and_go() {
    let row = |name: &str, at: &str, to: &str| format!("demo/{name}:http/tcp {at}:80 -> {to}:8080");
    let v4 = |name: &str, at: &str| row(name, at, "10.244.1.1");
    let v6 = |name: &str, at: &str| row(name, at, "[fd00:10:244:1::1]");
    let prefer = v4("prefer", "10.96.100.4");
    let first = [&*v6("v6first", "[fd00:10:96::7]"), &*v4("v6first", "10.96.100.7")];
    let only = v6("v6only", "[fd00:10:96::6]");
    let steps: [(u32, &[&str]); 2] = [
        (10, &[KUBERNETES, &prefer, &v6("prefer", "[fd00:10:96::4]"), first[0], first[1], &only]),
        (0, &[KUBERNETES, &prefer, first[0], first[1], &only, &v4("v6only", "10.96.144.50")]),
    ];
    play("06", &steps).await;
}

#[tokio::test]
async fn exc_4_headless_services_have_no_rows() {
    play("07", &[(0, &[KUBERNETES])]).await;
}

#[tokio::test]
async fn exc_5_an_external_name_has_no_rows_whatever_it_was_before() {
    let web = "demo/web:http/tcp 10.96.100.1:80 -> nobody";
    let back = "demo/web:http/tcp 10.96.100.9:80 -> nobody";
    let steps: [(u32, &[&str]); 3] =
        [(7, &[KUBERNETES, web]), (9, &[KUBERNETES]), (0, &[KUBERNETES, back])];
    play("08", &steps).await;
}

/// LBR-1, LBR-2, LBR-4, OBJ-14: addresses come from status, a second Service that claims one does not get it.
#[tokio::test]
async fn lbr_1_addresses_of_a_balancer_come_and_go() {
    let lb = |vips: &str| format!("demo/lb:http/tcp 10.96.100.20:80{vips} np4:30020 ->  | nobody");
    let class = "demo/lbclass:http/tcp 10.96.100.21:80 -> nobody";
    let two = lb(" 203.0.113.20:80 203.0.113.21:80");
    let steps: [(u32, &[&str]); 6] = [
        (4, &[KUBERNETES, &lb("")]),
        (5, &[KUBERNETES, &lb(" 203.0.113.20:80")]),
        (6, &[KUBERNETES, &lb("")]),
        (8, &[KUBERNETES, &two]),
        (11, &[KUBERNETES, &two, class]),
        (0, &[KUBERNETES, class]),
    ];
    play("10", &steps).await;
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

/// EPS-1 to EPS-5: conditions, ports, labels and addresses that only hand-made slices lack or have.
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
async fn syn_1_a_list_is_all_its_pages() {
    let page = |n: u8| format!("demo/page-{n}:80/tcp 10.96.101.{n}:80 -> nobody");
    play("15", &[(0, &[KUBERNETES, &page(1), &page(2), &page(3), &page(4), &page(5)])]).await;
}

/// Bookmarks are no objects, with or without a mark for the end of the present state.
#[tokio::test]
async fn syn_1_a_watch_that_begins_with_everything() {
    let first = "demo/first:80/tcp 10.96.100.50:80 -> 10.244.9.50:80";
    let second = "demo/second:80/tcp 10.96.100.51:80 -> nobody";
    play("16", &[(3, &[KUBERNETES, first]), (0, &[KUBERNETES, first, second])]).await;
}

#[tokio::test]
async fn syn_6_watches_that_end_are_resumed_and_missed_events_come_first() {
    let one = "demo/one:80/tcp 10.96.100.61:80 -> nobody";
    let two = "demo/two:80/tcp 10.96.100.62:80 -> nobody";
    play("18", &[(4, &[KUBERNETES, one]), (0, &[KUBERNETES, two])]).await;
}

/// EXC-2: the label of another proxy comes and goes, which a watch with a selector shows as deletion and addition.
#[tokio::test]
async fn exc_2_a_service_leaves_the_selection_and_enters_it() {
    let web = "demo/web:80/tcp 10.96.100.1:80 -> nobody";
    let steps: [(u32, &[&str]); 3] =
        [(5, &[KUBERNETES, web]), (6, &[KUBERNETES]), (0, &[KUBERNETES, web])];
    play("26", &steps).await;
}

/// SYN-6, SYN-9: the server dies and forgets; what was deleted meanwhile is missing from the new list.
#[tokio::test]
async fn syn_6_a_restart_of_the_server_with_410_on_every_watch() {
    let row = |name: &str, n: u8| format!("demo/{name}-{n}:80/tcp 10.96.102.{n}:80 -> nobody");
    let old = |n: u8| row("old", n);
    let new = "demo/new-1:80/tcp 10.96.102.9:80 -> nobody";
    let steps: [(u32, &[&str]); 3] = [
        (3, &[KUBERNETES, &old(5), &old(6)]),
        (11, &[KUBERNETES, &old(2), &old(3), &old(4), &old(5), &old(6)]),
        (0, &[KUBERNETES, &old(2), &old(3), &old(4), &old(5), &old(6), new]),
    ];
    play("31", &steps).await;
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
