//! One question to one answer: what may be asked, aliases followed, and the answer made to fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable, BinEncoder};

use super::counters::Counters;
use super::forward::Upstream;
use super::records::{Found, Zone};
use crate::config;
use crate::control::Handle;

/// The largest answer over UDP: what passes any path in one piece.
const UDP_PAYLOAD: u16 = 1232;
/// The largest answer to a client that does not say what it can take.
const PLAIN_PAYLOAD: u16 = 512;
/// Bytes of the record that says what we can take.
const OPT_LEN: u16 = 11;
/// Names an answer follows at most, from alias to alias.
const MAX_NAMES: usize = 8;
/// Targets of which the addresses are sent along.
const MAX_TARGETS: usize = 16;

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Everything an answer needs.
#[derive(Debug)]
pub(super) struct Server {
    zone: Arc<Zone>,
    ttl: u32,
    control: Handle,
    upstream: Option<Upstream>,
    pub(super) counters: Arc<Counters>,
    /// Rotates records, so that clients that take the first one spread.
    turn: AtomicUsize,
}

/// The parts of an answer.
#[derive(Debug)]
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Server {
    pub(super) fn new(config: &config::Dns, control: Handle, counters: Arc<Counters>) -> Self {
        let servers = config.addresses.iter().map(std::net::SocketAddr::ip).collect();
        Self {
            zone: Arc::new(Zone::new(config.zone.clone(), config.ttl, servers)),
            ttl: config.ttl,
            control,
            upstream: Upstream::new(&config.upstreams),
            counters,
            turn: AtomicUsize::new(0),
        }
    }

    /// The answer to a question, both as they go over the wire; `None` when there is nothing to be said.
    pub(super) async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = match Message::from_vec(question) {
            Ok(request) => request,
            Err(_) => unreadable(question)?,
        };
        // Answering answers would never end.
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let reply = self.reply(&request).await;
        self.counters.answer(reply.code);
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.recursion_available = self.upstream.is_some();
        answer.metadata.authoritative = reply.authoritative;
        answer.metadata.response_code = reply.code;
        answer.queries = request.queries;
        answer.answers = reply.answers;
        answer.authorities = reply.authorities;
        answer.additionals = reply.additionals;
        answer.edns = request.edns.as_ref().map(|asked| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD).set_dnssec_ok(asked.flags().dnssec_ok);
            edns
        });
        let asked = request.edns.as_ref().map_or(PLAIN_PAYLOAD, Edns::max_payload);
        let most = match transport {
            Transport::Udp => asked.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD),
            Transport::Tcp => u16::MAX,
        };
        encode(answer, most, transport)
    }

    async fn reply(&self, request: &Message) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::of(ResponseCode::NotImp);
        }
        let [query] = &request.queries[..] else { return Reply::of(ResponseCode::FormErr) };
        if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Reply::of(ResponseCode::BADVERS);
        }
        let transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
        if query.query_class() != DNSClass::IN || transfer {
            return Reply::of(ResponseCode::Refused);
        }
        self.resolve(query.name(), query.query_type()).await
    }

    /// Follows a name to its records.
    async fn resolve(&self, asked: &Name, kind: RecordType) -> Reply {
        let mut reply = Reply::of(ResponseCode::NoError);
        let mut name = asked.clone();
        for _ in 0..MAX_NAMES {
            let (zone, records) = match self.find(&name).await {
                Some(Found::Here { zone, records }) => (zone, records),
                Some(Found::Elsewhere) => return self.forward(reply, &name, kind).await,
                None => return Reply::of(ResponseCode::ServFail),
            };
            reply.authoritative = true;
            let exists = records.is_some();
            match select(records.unwrap_or_default(), kind) {
                Selected::Alias(alias) => {
                    let RData::CNAME(target) = &alias else { break };
                    let next = target.0.clone();
                    reply.answers.push(Record::from_rdata(name, self.ttl, alias));
                    name = next;
                }
                Selected::Records(records) if records.is_empty() => {
                    let soa = Record::from_rdata(zone, self.ttl, self.zone.soa());
                    reply.authorities.push(soa);
                    reply.code =
                        if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
                    return reply;
                }
                Selected::Records(mut records) => {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed) % records.len();
                    records.rotate_left(turn);
                    reply.additionals = self.addresses(&records).await;
                    let records = records.into_iter();
                    reply.answers.extend(
                        records.map(|data| Record::from_rdata(name.clone(), self.ttl, data)),
                    );
                    return reply;
                }
            }
        }
        Reply::of(ResponseCode::ServFail)
    }

    /// What there is of a name; `None` before all objects are known, or when the process ends.
    async fn find(&self, name: &Name) -> Option<Found> {
        let (zone, name) = (self.zone.clone(), name.clone());
        let found = self.control.inspect(move |view| {
            let assembly = view.assembly;
            let found = || zone.find(&name, assembly.state(), assembly.settings());
            assembly.complete().then(found)
        });
        found.await.ok().flatten()
    }

    /// Addresses of the targets of SRV records, if they are few.
    async fn addresses(&self, records: &[RData]) -> Vec<Record> {
        let mut addresses = Vec::new();
        if records.len() > MAX_TARGETS {
            return addresses;
        }
        for data in records {
            let RData::SRV(srv) = data else { continue };
            let Some(Found::Here { records: Some(found), .. }) = self.find(&srv.target).await
            else {
                continue;
            };
            let found = found.into_iter();
            addresses
                .extend(found.map(|data| Record::from_rdata(srv.target.clone(), self.ttl, data)));
        }
        addresses
    }

    /// Asks others for the rest of an answer.
    async fn forward(&self, mut reply: Reply, name: &Name, kind: RecordType) -> Reply {
        let Some(upstream) = &self.upstream else {
            // An alias alone is an answer, if a poor one.
            if reply.answers.is_empty() {
                reply.code = ResponseCode::Refused;
            }
            return reply;
        };
        self.counters.forward();
        let forwarded = upstream.ask(name, kind).await;
        reply.code = forwarded.code;
        reply.answers.extend(forwarded.answers);
        reply.authorities.extend(forwarded.authorities);
        reply
    }
}

enum Selected {
    Records(Vec<RData>),
    Alias(RData),
}

/// The records of a kind, or the alias that stands for them.
fn select(mut records: Vec<RData>, kind: RecordType) -> Selected {
    if kind != RecordType::CNAME && matches!(records[..], [RData::CNAME(_)]) {
        return Selected::Alias(records.remove(0));
    }
    let kind = match (kind, records.first()) {
        // Of everything something is enough (RFC 8482).
        (RecordType::ANY, Some(first)) => first.record_type(),
        _ => kind,
    };
    records.retain(|data| data.record_type() == kind);
    Selected::Records(records)
}

/// What can be told of a question that is none: its number and kind, from which an error is made.
fn unreadable(question: &[u8]) -> Option<Message> {
    let [high, low, flags, ..] = *question else { return None };
    let kind = if flags & 0x80 == 0 { MessageType::Query } else { MessageType::Response };
    let whole_header = question.len() >= 12;
    whole_header.then(|| Message::new(u16::from_be_bytes([high, low]), kind, OpCode::Query))
}

/// Bytes of a message, at most so many. What is not asked for goes first; when answers must go too, it says so.
fn encode(mut message: Message, most: u16, transport: Transport) -> Option<Vec<u8>> {
    let (whole, bytes) = emit(&message, most).ok()?;
    if whole {
        return Some(bytes);
    }
    message.additionals.clear();
    let (whole, bytes) = emit(&message, most).ok()?;
    if whole {
        return Some(bytes);
    }
    let edns = message.edns.take();
    message.authorities.clear();
    let (_, bytes) = emit(&message, most.saturating_sub(OPT_LEN)).ok()?;
    message.edns = edns;
    message.answers.truncate(u16::from_be_bytes([bytes[6], bytes[7]]).into());
    // Over TCP there is nothing more to be had.
    message.metadata.truncation = transport == Transport::Udp;
    emit(&message, most).ok().map(|(_, bytes)| bytes)
}

/// Whether all of a message fits, and what does.
fn emit(message: &Message, most: u16) -> Result<(bool, Vec<u8>), ProtoError> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN_PAYLOAD));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(most);
    message.emit(&mut encoder)?;
    let truncated = bytes[2] & 0x02 != 0;
    Ok((!truncated, bytes))
}

impl Reply {
    fn of(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}
