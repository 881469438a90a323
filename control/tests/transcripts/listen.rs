//! The client's end of a watch.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use serde_json::Value;
use tokio::time::timeout;

/// Whoever waits longer waits for nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Listener {
    stream: BodyDataStream,
    buffer: Vec<u8>,
    /// The object of the last event that was expected.
    pub last: Value,
}

impl Listener {
    pub fn new(body: Body) -> Self {
        Self { stream: body.into_data_stream(), buffer: Vec::new(), last: Value::Null }
    }

    /// The next event; `None` if the watch ended cleanly.
    pub async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| error.to_string());
            }
            match timeout(PATIENCE, self.stream.next()).await.map_err(|_| "no event")? {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }

    /// The watch must end without another word.
    pub async fn finished(&mut self) -> Result<(), String> {
        while let Some(event) = self.next().await? {
            if event["type"] != "BOOKMARK" {
                return Err(format!("one event too many: {event}"));
            }
        }
        Ok(())
    }
}
