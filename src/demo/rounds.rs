//! First act: every kind of VIP in both families gets requests, datagrams and a ping.

use super::failure::Failure;
use super::plan::{BACKENDS, CLIENT, Family, Kind};
use super::report::{Report, Tally, Vip};
use super::screen::Screen;
use super::stage::Stage;
use super::talk::{Replies, ToClient};

/// Per VIP and family.
const REQUESTS: usize = 12;
const DATAGRAMS: usize = 6;
/// Backends there are in this act.
const AT_FIRST: usize = BACKENDS.len() - 1;

/// Plays the act.
pub(super) fn play(stage: &mut Stage, report: &mut Report, screen: Screen) -> Result<(), Failure> {
    screen.heading(&format!(
        "1  Four kinds of VIP: {REQUESTS} HTTP requests, {DATAGRAMS} UDP datagrams, a ping each"
    ));
    screen.line(format!(
        "   {:<12}  {:<22}  {:<26}  {:<4}  {:<7}  {}",
        "KIND", "ADDRESS", "HTTP ANSWERED BY", "UDP", "PING", "CLIENT SEEN AS"
    ));
    for kind in Kind::ALL {
        for family in Family::here() {
            let vip = visit(stage, kind, family)?;
            let ping = vip.ping_micros.map_or_else(
                || "none".to_owned(),
                |micros| format!("{}.{:02} ms", micros / 1000, micros / 10 % 100),
            );
            screen.line(format!(
                "   {:<12}  {:<22}  {}  {:<4}  {ping:<7}  {}",
                kind.name(),
                vip.address,
                screen.shares(&vip.http, AT_FIRST),
                format!("{}/{DATAGRAMS}", vip.udp.total()),
                vip.seen_as.join(", ")
            ));
            check(&vip, report);
            if vip.http.total() == 0 {
                let what =
                    format!("answers nothing at {}: {}", vip.address, vip.http.errors.join(", "));
                return Err(stage.gateway.failure(what));
            }
            report.vips.push(vip);
        }
    }
    Ok(())
}

fn visit(stage: &mut Stage, kind: Kind, family: Family) -> Result<Vip, Failure> {
    let to = kind.http(family);
    let replies: Replies = stage.client.ask(&ToClient::Requests { to, count: REQUESTS })?;
    let mut seen_as: Vec<String> =
        replies.good.iter().map(|reply| reply.seen.ip().to_string()).collect();
    seen_as.sort();
    seen_as.dedup();
    let mut http = Tally::default();
    http.add(replies);
    let mut udp = Tally::default();
    let echo = ToClient::Datagrams { to: kind.echo(family), count: DATAGRAMS };
    udp.add(stage.client.ask(&echo)?);
    // No answer to a ping is a finding, not the end.
    let ping_micros = stage.client.ask(&ToClient::Ping { to: to.ip() }).ok();
    Ok(Vip { kind, family, address: to.to_string(), http, udp, ping_micros, seen_as })
}

fn check(vip: &Vip, report: &mut Report) {
    let mut problem = |text: String| {
        report.problems.push(format!("{} {}: {text}", vip.kind.name(), vip.address));
    };
    for (what, tally, expected) in [("HTTP", &vip.http, REQUESTS), ("UDP", &vip.udp, DATAGRAMS)] {
        if tally.total() != expected {
            problem(format!(
                "{what}: {} of {expected} answered; {}",
                tally.total(),
                tally.errors.join(", ")
            ));
        }
    }
    let here = |name: &String| BACKENDS[..AT_FIRST].iter().any(|backend| backend.name == name);
    if vip.http.answers.len() < 2 || !vip.http.answers.keys().all(here) {
        problem(format!("requests were not spread over the backends: {:?}", vip.http.answers));
    }
    if vip.ping_micros.is_none() {
        problem("no answer to a ping".to_owned());
    }
    if vip.kind == Kind::LoadBalancer && vip.seen_as != [CLIENT.of(vip.family).to_string()] {
        problem(format!(
            "externalTrafficPolicy Local, but the client is seen as {:?}",
            vip.seen_as
        ));
    }
}
