//! The writer by itself: what changes, what stays, and what is copied for it.

use super::*;
use crate::flow::Protocol;
use crate::service::Frontend;

fn at(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

fn row(name: &str, vip: u8, endpoints: &[u8]) -> ServicePort {
    let list: Vec<SocketAddr> = endpoints.iter().map(|&last| at(last)).collect();
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        has_endpoints: !list.is_empty(),
        cluster: list,
        internal_local: None,
        external_local: None,
        serving: vec![],
        affinity: None,
        frontends: vec![Frontend {
            at: FrontendAt::Address(at(vip)),
            class: Class::Cluster,
            allowed_sources: Arc::new([]),
        }],
    }
}

fn finds(writer: &ServiceWriter, last: u8) -> Option<Arc<str>> {
    let found = writer.table.find(Address::from(at(last).ip()), 80, Protocol::Tcp)?;
    Some(found.row().name.clone())
}

#[test]
fn every_change_and_nothing_else_is_reported() {
    let mut writer = ServiceWriter::new(HashKey::new(1));
    // No published table keeps old rows, so that their memory is used again.
    for round in 0..100 {
        let endpoints: &[u8] = if round % 2 == 0 { &[1, 2] } else { &[1, 3] };
        assert!(writer.apply("ns/a", vec![row("a", 100, endpoints)]), "round {round}");
        assert!(!writer.apply("ns/a", vec![row("a", 100, endpoints)]), "round {round}");
    }
    assert!(writer.apply("ns/a", vec![]));
    assert!(!writer.apply("ns/a", vec![]));
}

#[test]
fn a_change_copies_what_differs_and_nothing_else() {
    let mut writer = ServiceWriter::new(HashKey::new(1));
    for vip in 100..=255 {
        writer.apply(&format!("ns/{vip}"), vec![row("a", vip, &[1, 2, 3])]);
    }
    let before = writer.table();
    writer.apply("ns/100", vec![row("a", 100, &[1, 2, 4])]);
    let after = &writer.table;
    assert_eq!(after.frontends.copied(&before.frontends), 1, "it leads to the new row");
    assert_eq!(after.endpoints.copied(&before.endpoints), 2, "one is gone, one is new");
    assert_eq!(after.vips.copied(&before.vips), 0);
    assert_eq!(after.former.copied(&before.former), 0);

    let before = writer.table();
    let mut closed = row("a", 100, &[1, 2, 4]);
    closed.internal_local = Some(closed.cluster.clone());
    let choice = |writer: &ServiceWriter| writer.services["ns/100"][0].row.cluster.clone();
    let list = choice(&writer);
    assert!(writer.apply("ns/100", vec![closed]));
    assert!(Arc::ptr_eq(&choice(&writer), &list), "the same backends need no new table");
    assert_eq!(writer.table.endpoints.copied(&before.endpoints), 0);
}

#[test]
fn endpoints_keep_their_ids_whichever_list_names_them() {
    let mut writer = ServiceWriter::new(HashKey::new(1));
    let id =
        |writer: &ServiceWriter, last| writer.services["ns/a"][0].id(&at(last)).expect("it serves");
    writer.apply("ns/a", vec![row("a", 100, &[1, 2])]);
    let (one, two) = (id(&writer, 1), id(&writer, 2));
    let mut moved = row("a", 100, &[1]);
    moved.serving = vec![at(2)];
    writer.apply("ns/a", vec![moved]);
    assert_eq!((id(&writer, 1), id(&writer, 2)), (one, two));
    writer.apply("ns/a", vec![row("a", 100, &[2])]);
    assert_eq!(id(&writer, 2), two);
    assert!(!writer.table.serves(one) && writer.table.serves(two));
    assert_eq!(writer.table.endpoints().count(), 1);
    writer.apply("ns/a", vec![]);
    assert!(!writer.table.serves(two));
    assert_eq!(writer.table.endpoints().count(), 0);
}

#[test]
fn rows_may_swap_their_frontends() {
    let mut writer = ServiceWriter::new(HashKey::new(1));
    writer.apply("ns/a", vec![row("a", 100, &[1]), row("b", 101, &[1])]);
    writer.apply("ns/a", vec![row("a", 101, &[1]), row("b", 100, &[1])]);
    assert_eq!((finds(&writer, 100), finds(&writer, 101)), (Some("b".into()), Some("a".into())));
    assert_eq!(writer.table.vips().count(), 2);
    assert!(writer.table.former.is_empty());
    writer.apply("ns/a", vec![]);
    assert_eq!((finds(&writer, 100), finds(&writer, 101)), (None, None));
    assert_eq!((writer.table.vips().count(), writer.table.endpoints().count()), (0, 0));
}

#[test]
fn what_is_gone_is_remembered_until_it_is_forgotten_or_back() {
    let mut writer = ServiceWriter::new(HashKey::new(1));
    let was = |writer: &ServiceWriter, last| {
        let ip = Address::from(at(last).ip());
        let table = &writer.table;
        (
            table.was_frontend(ip, 80, Protocol::Tcp).is_some(),
            table.is_endpoint(ip, 80, Protocol::Tcp),
        )
    };
    writer.apply("ns/a", vec![row("a", 100, &[1, 2])]);
    writer.apply("ns/a", vec![row("a", 101, &[1])]);
    assert_eq!((was(&writer, 100), was(&writer, 101)), ((true, false), (false, false)));
    assert_eq!((was(&writer, 1), was(&writer, 2)), ((false, true), (false, true)));
    assert_eq!(writer.table.endpoints().count(), 1, "the other one is gone");
    assert!(!writer.forget_retired());
    writer.apply("ns/b", vec![row("b", 100, &[3])]);
    assert_eq!(was(&writer, 100), (false, false), "it is back");
    assert!(writer.forget_retired());
    assert_eq!((was(&writer, 1), was(&writer, 2)), ((false, true), (false, false)));
    assert_eq!(finds(&writer, 100), Some("b".into()));
}
