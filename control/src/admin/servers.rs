//! The two listeners and the clock of [`Admin`], as one future.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

use super::socket::Socket;
use super::{Admin, http, service_health};

/// Between two looks at the workers.
const SAMPLE: Duration = Duration::from_secs(1);

/// Why nobody could ask the process anything.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The unix socket.
    #[error("cannot listen on admin socket {path}: {error}")]
    Socket {
        /// Its path.
        path: String,
        /// The reason.
        error: io::Error,
    },
    /// The HTTP address.
    #[error("cannot listen on HTTP address {address}: {error}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// The reason.
        error: io::Error,
    },
}

/// Bound listeners. The socket's file is removed when they, or the future of [`Self::run`], are dropped.
#[derive(Debug)]
pub struct Servers {
    socket: Socket,
    http: TcpListener,
}

impl Servers {
    /// Listens on both; before the workers start, so that a process that can't be watched does not start at all.
    /// Errors when either is taken or not allowed.
    pub async fn bind(socket: &Path, http: SocketAddr) -> Result<Self, AdminError> {
        let path = socket.display().to_string();
        let socket = Socket::bind(socket).map_err(|error| AdminError::Socket { path, error })?;
        let address = http;
        let http = TcpListener::bind(address)
            .await
            .map_err(|error| AdminError::Http { address, error })?;
        Ok(Self { socket, http })
    }

    /// The HTTP address, with the port that was chosen if it was 0.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// The socket's file.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        self.socket.path()
    }

    /// Answers, for ever; drop the future to stop.
    pub async fn run(self, admin: Arc<Admin>) {
        let sampling = async {
            let mut clock = interval(SAMPLE);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                clock.tick().await;
                admin.sample();
                admin.note_one_way().await;
            }
        };
        tokio::join!(
            sampling,
            self.socket.serve(admin.clone()),
            http::serve(self.http, admin.clone()),
            service_health::serve(admin.clone())
        );
    }
}
