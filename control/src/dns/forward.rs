//! Names of others: asked of the configured servers, remembered for as long as they allow.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions at a time; fewer than there are places for questions, so that the cluster's names always find one.
const QUESTIONS: usize = 128;
/// Answers in the cache.
const CACHE: u64 = 8192;
/// How long a server may take before it, or another, is asked again.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// How long a question may take: clients give up after five seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// What the others say.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

/// The other servers.
pub(super) struct Upstream {
    resolver: TokioResolver,
    places: Semaphore,
}

impl Upstream {
    /// `None` without servers, of which there must be one.
    pub(super) fn new(servers: &[SocketAddr]) -> Option<Self> {
        if servers.is_empty() {
            return None;
        }
        let servers = servers.iter().map(|server| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = server.port());
            NameServerConfig::new(server.ip(), true, connections)
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        set(builder.options_mut());
        // It fails for want of certificates, which plain DNS has no use for.
        let resolver = builder.build().ok()?;
        Some(Self { resolver, places: Semaphore::new(QUESTIONS) })
    }

    /// Asks for records of a name.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Forwarded {
        let Ok(_place) = self.places.try_acquire() else { return Forwarded::failed() };
        match timeout(PATIENCE, self.resolver.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => {
                let mut answers = lookup.answers().to_vec();
                // In the case that was asked for (DNS-10).
                let asked = answers.iter_mut().filter(|record| record.name == *name);
                asked.for_each(|record| record.name = name.clone());
                Forwarded { code: ResponseCode::NoError, answers, authorities: Vec::new() }
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                let soa = none.soa.map(|soa| {
                    Record::from_rdata(soa.name.clone(), soa.ttl, RData::SOA(soa.data.clone()))
                });
                Forwarded {
                    code: none.response_code,
                    answers: Vec::new(),
                    authorities: soa.into_iter().collect(),
                }
            }
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => {
                Forwarded { code, ..Forwarded::failed() }
            }
            Ok(Err(_)) | Err(_) => Forwarded::failed(),
        }
    }
}

fn set(options: &mut ResolverOpts) {
    options.timeout = ATTEMPT;
    options.cache_size = CACHE;
    options.max_active_requests = QUESTIONS;
    options.use_hosts_file = ResolveHosts::Never;
    // The kernel's choice never falls into the ports that masqueraded connections use.
    options.os_port_selection = true;
}

impl Forwarded {
    fn failed() -> Self {
        Self { code: ResponseCode::ServFail, answers: Vec::new(), authorities: Vec::new() }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Upstream")
    }
}
