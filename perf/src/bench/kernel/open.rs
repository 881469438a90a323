//! Opens the connections of all flows before anything is measured, in both directions: the client sends a packet of each,
//! the node answers it. So both gateways then have nothing but established connections, and it is proved that they
//! translate: the node gets packets for an endpoint from the client itself, the client gets answers from where it sent to.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::Error;
use super::frames::{self, Ends};
use super::plan::{
    CLIENT, CLIENT_MAC, ENDPOINT_PORT, OUTSIDE_MAC, Target, client_port, flow_of, is_endpoint,
};
use super::site::Site;
use super::socket::Socket;

/// Packets on their way at a time: sockets have room for them.
const BURST: usize = 64;
/// How long it may take, with everything that a gateway has to find out first.
const LIMIT: Duration = Duration::from_secs(10);

/// Opens all flows to a target; returns when the client has an answer of each.
pub(super) fn open(site: &Site, flows: u16, target: Target) -> Result<(), Error> {
    let failed = |error: io::Error| Error(format!("cannot open connections: {error}"));
    let node = Socket::both(&site.node).map_err(failed)?;
    let client = Socket::both(&site.client).map_err(failed)?;
    let done = AtomicBool::new(false);
    let missing = thread::scope(|scope| {
        let answering = scope.spawn(|| answer(&node, &done));
        let missing = ask(&client, flows, target);
        done.store(true, Ordering::Relaxed);
        answering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        missing
    });
    match missing.map_err(failed)? {
        0 => Ok(()),
        missing => Err(Error(format!(
            "{missing} of {flows} flows have no answer after {LIMIT:?}: the gateway does not forward them as it should"
        ))),
    }
}

/// The client. Returns how many flows have no answer.
fn ask(socket: &Socket, flows: u16, target: Target) -> io::Result<usize> {
    let begin = Instant::now();
    let mut waiting: Vec<u16> = (0..flows).collect();
    let mut answered = vec![false; usize::from(flows)];
    let mut buffer = [0; 2048];
    while !waiting.is_empty() && begin.elapsed() < LIMIT {
        for burst in waiting.chunks(BURST) {
            for &flow in burst {
                let frame = frames::build(CLIENT_MAC, OUTSIDE_MAC, ends(flow, target));
                socket.send(&frame)?;
            }
            let mut missing = burst.len();
            while missing > 0 {
                let Some(frame) = socket.receive(&mut buffer)? else { break };
                let Some(flow) = answers(frame, flows, target) else { continue };
                missing -= usize::from(!answered[usize::from(flow)]);
                answered[usize::from(flow)] = true;
            }
            if missing == burst.len() && begin.elapsed() > LIMIT {
                break;
            }
        }
        waiting.retain(|&flow| !answered[usize::from(flow)]);
    }
    Ok(waiting.len())
}

/// The node, and all endpoints behind it.
fn answer(socket: &Socket, done: &AtomicBool) -> io::Result<()> {
    let mut buffer = [0; 2048];
    while !done.load(Ordering::Relaxed) {
        let Some(frame) = socket.receive(&mut buffer)? else { continue };
        let Some(ends) = frames::read(frame) else { continue };
        let (address, port) = ends.destination;
        if ends.source.0 == CLIENT && is_endpoint(address) && port == ENDPOINT_PORT {
            socket.send(&frames::answer(frame, ends))?;
        }
    }
    Ok(())
}

/// What the client sends.
pub(super) fn ends(flow: u16, target: Target) -> Ends {
    Ends { source: (CLIENT, client_port(flow)), destination: target.of(flow) }
}

/// The flow that a frame is the right answer of.
fn answers(frame: &[u8], flows: u16, target: Target) -> Option<u16> {
    let Ends { source, destination } = frames::read(frame)?;
    let flow = flow_of(destination.1).filter(|&flow| flow < flows)?;
    (Ends { source: destination, destination: source } == ends(flow, target)).then_some(flow)
}
