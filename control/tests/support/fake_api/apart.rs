//! The server on a thread of its own, which a test can kill: its connections break, and nobody listens any more.

use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};

use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::FakeApi;

/// A server that runs until this is dropped. What it holds lives on, for another one to serve.
pub(crate) struct Apart {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeApi {
    /// Serves on an address from now on.
    pub(crate) fn serve_apart(&self, address: SocketAddr) -> Apart {
        let listener = TcpListener::bind(address).expect("a free address");
        listener.set_nonblocking(true).expect("a socket");
        let router = self.router();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            // Its end takes all connections with it.
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                tokio::spawn(async move { axum::serve(listener, router).await });
                stopped.await.expect("it is told before");
            });
        });
        Apart { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let (Some(stop), Some(thread)) = (self.stop.take(), self.thread.take()) {
            // Each error is a panic over there, which the test has printed.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}
