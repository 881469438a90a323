//! What was answered.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_resolver::proto::op::ResponseCode;

/// Response codes with their names in metrics; any other counts as the last.
const CODES: [(&str, ResponseCode); 7] = [
    ("noerror", ResponseCode::NoError),
    ("nxdomain", ResponseCode::NXDomain),
    ("servfail", ResponseCode::ServFail),
    ("refused", ResponseCode::Refused),
    ("formerr", ResponseCode::FormErr),
    ("notimp", ResponseCode::NotImp),
    ("other", ResponseCode::BADVERS),
];

/// Figures about the DNS server.
#[derive(Debug, Default)]
pub struct Counters {
    queries: [AtomicU64; CODES.len()],
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    /// Answers by response code.
    pub fn queries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.queries.iter().map(|count| count.load(Ordering::Relaxed));
        CODES.iter().map(|(name, _)| *name).zip(counts)
    }

    /// Questions that other servers were asked, or their answers in the cache.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Questions dropped because too many were being answered.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn answer(&self, code: ResponseCode) {
        let known = CODES.iter().position(|(_, known)| *known == code);
        self.queries[known.unwrap_or(CODES.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn forward(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
