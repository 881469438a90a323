//! What the NICs do with packets of several queues, put to use: the worker that owns a connection is the one to whose queue
//! its packets come.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

mod support;

use std::collections::HashSet;

use dataplane::flow::Protocol::Tcp;
use support::gateway::{FAMILIES, Family, Fate, IN, OUT, PODS, Service, at, sent_in, sent_out};
use support::net::{Net, Nics, Steering, WORKERS, ends, service};
use support::packet::*;

/// A client's TCP connection through its Service, as it went so far.
struct Story {
    client: (std::net::IpAddr, u16),
    inside: (std::net::IpAddr, u16),
    backend: (std::net::IpAddr, u16),
    owner: Option<usize>,
}

impl Story {
    /// The handshake.
    fn open(net: &mut Net, f: Family, number: u16) -> Self {
        let client = at(f.client, 5000 + number);
        let mut owner = None;
        let first = net.outside(&tcp(client, at(f.load_balancer, 80)), &mut owner);
        let Fate::Sent(IN, frame) = &first else { panic!("{first:?}") };
        let (inside, backend) = ends(frame);
        let mut story = Self { client, inside, backend, owner };
        story.reply(net, f, SYN | ACK);
        story.talk(net, f);
        story
    }

    /// A packet each way.
    fn talk(&mut self, net: &mut Net, f: Family) {
        let Self { client, inside, backend, .. } = *self;
        let packet = tcp(client, at(f.load_balancer, 80)).flags(ACK);
        let expected = sent_in(tcp(inside, backend).flags(ACK).ttl(63));
        assert_eq!(net.outside(&packet, &mut self.owner), expected);
        self.reply(net, f, ACK);
    }

    fn reply(&mut self, net: &mut Net, f: Family, flags: u8) {
        let Self { client, inside, backend, .. } = *self;
        let fate = net.pods(&tcp(backend, inside).flags(flags), &mut self.owner);
        assert_eq!(fate, sent_out(tcp(at(f.load_balancer, 80), client).flags(flags).ttl(63)));
    }
}

fn stories(net: &mut Net, f: Family) -> Vec<Story> {
    let stories: Vec<Story> = (0..100).map(|number| Story::open(net, f, number)).collect();
    let owners: HashSet<_> = stories.iter().map(|story| story.owner).collect();
    assert_eq!(owners.len(), net.workers, "every worker has its share");
    stories
}

/// With affinity, connections are opened in the whole way, without in the quick one.
#[test]
fn masqueraded_connections_change_no_hands_where_nics_hash_flows() {
    for workers in WORKERS {
        for (f, affinity) in FAMILIES.into_iter().flat_map(|f| [(f, None), (f, Some(10_800))]) {
            let mut net = Net::on(Nics::Flows, workers, Steering::Toeplitz);
            let mut service = service(f, true);
            service.iter_mut().for_each(|service| service.0.affinity = affinity);
            net.gateway.apply("ns/web", &service);
            for story in stories(&mut net, f) {
                assert_ne!(story.inside.0, story.client.0);
            }
            assert_eq!(net.handed_over(), 0);
        }
    }
}

#[test]
fn no_connection_changes_hands_where_nics_hash_the_clients_end() {
    for workers in WORKERS {
        for (f, masquerade) in FAMILIES.into_iter().flat_map(|f| [(f, false), (f, true)]) {
            let mut net = Net::on(Nics::Ends, workers, Steering::Toeplitz);
            net.gateway.apply("ns/web", &service(f, masquerade));
            for story in stories(&mut net, f) {
                assert_eq!(story.inside.0 == story.client.0, !masquerade);
            }
            assert_eq!(net.handed_over(), 0);
        }
    }
}

/// Whose connections are must not change under them, whatever becomes of the policy that decides it.
#[test]
fn connections_outlive_a_change_of_policy() {
    for nics in [Nics::Flows, Nics::Ends] {
        for (f, masquerade) in FAMILIES.into_iter().flat_map(|f| [(f, false), (f, true)]) {
            for pause in [false, true] {
                let mut net = Net::on(nics, 3, Steering::Toeplitz);
                net.gateway.apply("ns/web", &service(f, masquerade));
                let mut stories = stories(&mut net, f);
                let mut talk = |net: &mut Net| {
                    stories.iter_mut().for_each(|story| story.talk(net, f));
                };
                for masquerade in [!masquerade, masquerade] {
                    if pause {
                        net.gateway.apply("ns/web", &[]);
                        talk(&mut net);
                    }
                    net.gateway.apply("ns/web", &service(f, masquerade));
                    talk(&mut net);
                }
                let new = Story::open(&mut net, f, 1000);
                assert_eq!(new.inside.0 == new.client.0, !masquerade);
            }
        }
    }
}

/// MSQ-9: the address of a client that calls an endpoint on this host stays, and its answers must still be found.
#[test]
fn an_endpoint_on_the_host_answers_every_client() {
    for nics in [Nics::Unknown, Nics::Flows, Nics::Ends] {
        for f in FAMILIES {
            let mut net = Net::on(nics, 3, Steering::Random);
            let host = Service::new("ns/host:80", Tcp, &[(f.node_in, 8080)]);
            let vip = at(f.load_balancer, 80);
            net.gateway.apply("ns/host", &[host.load_balancer(f.load_balancer, 80, &[])]);
            let mut sources = HashSet::new();
            for number in 0..100 {
                let client = at(f.client, 5000 + number);
                let fate = net.outside(&tcp(client, vip), &mut None);
                let Fate::Punted(OUT, frame) = &fate else { panic!("{fate:?}") };
                let (inside, backend) = ends(frame);
                assert_eq!((inside.0, backend), (client.0, at(f.node_in, 8080)));
                assert!(sources.insert(inside), "two clients look the same");
                let answer = tcp(backend, inside).flags(SYN | ACK).macs(PODS, PODS).frame();
                let expected = sent_out(tcp(vip, client).flags(SYN | ACK).ttl(63));
                assert_eq!(net.gateway.inject(OUT, &answer), expected);
            }
        }
    }
}

/// A driver that tells of more queues than there are workers is not believed.
#[test]
fn queues_without_a_worker_own_nothing() {
    for f in FAMILIES {
        let mut net = Net::new(2, Steering::Random);
        let foreign = Net::on(Nics::Flows, 8, Steering::Random).gateway.setup.rss.clone();
        net.gateway = {
            let setup = support::gateway::Setup { workers: 2, rss: foreign, ..Default::default() };
            support::gateway::Gateway::new(setup)
        };
        net.gateway.apply("ns/web", &service(f, true));
        stories(&mut net, f);
    }
}
