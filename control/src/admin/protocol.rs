//! What is said on the admin socket: one JSON object in a line each way, then the connection ends.
//!
//! `{"version":1,"command":"status"}` is answered with `{"version":1,"status":{…}}` or `{"version":1,"error":"…"}`,
//! `{"version":1,"command":{"explain":["tcp 203.0.113.7:40000 -> 172.30.0.41:80"]}}` with `{"version":1,"explain":[…]}`.
//! Any tool that can write a line to a unix socket can ask.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Status;
use crate::explain::{Explanation, Flow};

/// Version of the protocol; raised when an old client would misread a new answer.
pub(super) const VERSION: u32 = 1;
/// Longest request in bytes, with its line end.
pub(super) const REQUEST_MAX: usize = 1 << 20;
/// Longest answer a client reads, in bytes.
pub(super) const ANSWER_MAX: u64 = 256 << 20;
/// How long a request may take to arrive, and an answer to be taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: u32,
    pub(super) command: Command,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Command {
    Status,
    Explain(Vec<Flow>),
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) version: u32,
    #[serde(flatten)]
    pub(super) answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    Status(Box<Status>),
    Explain(Vec<Explanation>),
    Error(String),
}

impl Request {
    /// From one line; errors with a sentence for the client.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } =
            serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))?;
        // Before the rest is read: a later version may look different.
        if version != VERSION {
            return Err(format!("this vipgate speaks version {VERSION}, not {version}"));
        }
        serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))
    }
}

impl Answer {
    /// As a line.
    pub(super) fn into_line(self) -> Vec<u8> {
        let response = Response { version: VERSION, answer: self };
        let mut line = serde_json::to_vec(&response).expect("plain data is JSON");
        line.push(b'\n');
        line
    }
}
