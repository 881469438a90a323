//! The other end of the admin socket, for commands of the same binary. Blocking: a command has nothing else to do.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Status;
use super::protocol::{ANSWER_MAX, Answer, Command, PATIENCE, Request, Response, VERSION};
use crate::explain::{Explanation, Flow};

/// How long to wait: for a place, and for the answer.
const WAIT: Duration = PATIENCE.saturating_mul(3);

/// Why a running process could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or one may not ask.
    #[error(
        "cannot reach vipgate at {path}: {error}; is `vipgate run` running, and may you open its socket?"
    )]
    Unreachable {
        /// The socket.
        path: String,
        /// The reason.
        error: std::io::Error,
    },
    /// The connection broke or took too long.
    #[error("vipgate did not answer: {0}")]
    Broken(#[from] std::io::Error),
    /// The answer can't be read: most likely the process is of another version.
    #[error("cannot read the answer; is the running vipgate of another version? {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The process refused.
    #[error("vipgate refused: {0}")]
    Refused(String),
}

/// Asks the process behind a socket for its status. Waits for seconds when it is busy.
pub fn status(socket: &Path) -> Result<Status, ClientError> {
    match ask(socket, Command::Status)? {
        Answer::Status(status) => Ok(*status),
        Answer::Error(message) => Err(ClientError::Refused(message)),
        Answer::Explain(_) => Err(ClientError::Refused("it answered another question".into())),
    }
}

/// Asks the process behind a socket what would happen to these flows.
pub fn explain(socket: &Path, flows: Vec<Flow>) -> Result<Vec<Explanation>, ClientError> {
    match ask(socket, Command::Explain(flows))? {
        Answer::Explain(explanations) => Ok(explanations),
        Answer::Error(message) => Err(ClientError::Refused(message)),
        Answer::Status(_) => Err(ClientError::Refused("it answered another question".into())),
    }
}

fn ask(socket: &Path, command: Command) -> Result<Answer, ClientError> {
    let unreachable =
        |error| ClientError::Unreachable { path: socket.display().to_string(), error };
    let mut stream = UnixStream::connect(socket).map_err(unreachable)?;
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let mut line = serde_json::to_vec(&Request { version: VERSION, command })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    let response: Response = serde_json::from_slice(&answer)?;
    Ok(response.answer)
}
