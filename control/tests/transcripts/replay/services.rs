//! Services as they come, change and go, and the ways in which watches of them begin and end.

use super::{KUBERNETES, play};

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
async fn obj_11_node_ports_change_and_come_and_go_with_the_type() {
    let np =
        |node_port: &str, to: &str| format!("demo/np:http/tcp 10.96.100.10:80{node_port} -> {to}");
    let dns_tcp = "demo/np2:dns-tcp/tcp 10.96.100.11:53 np4:30053 -> nobody";
    let dns = "demo/np2:dns/udp 10.96.100.11:53 np4:30053 -> nobody";
    let sctp = "demo/np2:sctp/sctp 10.96.100.11:38412 np4:30412 -> nobody";
    let steps: [(u32, &[&str]); 4] = [
        (5, &[KUBERNETES, &np(" np4:30080", " | nobody"), dns_tcp, dns, sctp]),
        (8, &[KUBERNETES, &np(" np4:30081", " | nobody"), dns_tcp, dns, sctp]),
        (9, &[KUBERNETES, &np("", "nobody"), dns_tcp, dns, sctp]),
        // Its policy was forgotten with the type.
        (0, &[KUBERNETES, &np(" np4:30080", "nobody"), dns_tcp, dns, sctp]),
    ];
    play("09", &steps).await;
}

#[tokio::test]
async fn obj_10_what_a_server_fills_in() {
    let aff = "demo/aff:http/tcp 10.96.100.40:80 -> nobody";
    let aff60 = "demo/aff60:http/tcp 10.96.100.41:80 -> nobody";
    let bare = "demo/bare:80/tcp 10.96.100.44:80 -> nobody";
    let external = "demo/xip:http/tcp 10.96.100.43:80 198.51.100.43:80 ->  | nobody";
    let local = "demo/itp:http/tcp 10.96.100.42:80 ->  | nobody";
    let cluster = "demo/itp:http/tcp 10.96.100.42:80 -> nobody";
    let steps: [(u32, &[&str]); 2] = [
        (8, &[KUBERNETES, aff, aff60, bare, external, local]),
        (0, &[KUBERNETES, aff, aff60, bare, external, cluster]),
    ];
    play("14", &steps).await;
}

/// SYN-3: a namespace goes with all that is in it.
#[tokio::test]
async fn syn_3_a_namespace_is_deleted() {
    play("27", &[(7, &["short/a:80/tcp 10.96.100.90:80 -> nobody"]), (0, &[])]).await;
}
