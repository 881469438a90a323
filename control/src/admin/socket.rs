//! The admin socket: a file that is there while the process answers, and its clients.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::Admin;
use super::protocol::{Answer, Command, PATIENCE, REQUEST_MAX, Request};

/// Clients at a time; more wait for one to end.
const CLIENTS: usize = 16;

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

impl Socket {
    /// Binds, for the owner only. Takes the place of a file nobody listens behind; errors with `AddrInUse` when
    /// somebody does, or when the file is no socket. Call in a tokio runtime.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        refuse_if_taken(path)?;
        // Under a private name first: between bind and the change of its mode anyone could connect.
        let private = path.with_extension(format!("{}", std::process::id()));
        let _ = fs::remove_file(&private);
        let listener = StdListener::bind(&private)?;
        let file = SocketFile::of(private.clone())?;
        fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        fs::rename(&private, path)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), ..file } })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Answers clients, for ever.
    pub(super) async fn serve(self, admin: Arc<Admin>) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let place = places.clone().acquire_owned().await.expect("never closed");
            let Ok((stream, _)) = self.listener.accept().await else {
                // Out of file descriptors: others need some time to end.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let admin = admin.clone();
            tokio::spawn(async move {
                // A client that left or was too slow is not worth a word.
                let _ = serve_one(stream, &admin).await;
                drop(place);
            });
        }
    }
}

async fn serve_one(mut stream: UnixStream, admin: &Admin) -> io::Result<()> {
    let request = timeout(PATIENCE, read_line(&mut stream)).await??;
    let answer = match request.and_then(|line| Request::parse(&line)) {
        Ok(Request { command: Command::Status, .. }) => {
            Answer::Status(Box::new(admin.status().await))
        }
        Ok(Request { command: Command::Explain(flows), .. }) => {
            admin.explain(flows).await.map_or_else(Answer::Error, Answer::Explain)
        }
        Err(message) => Answer::Error(message),
    };
    timeout(PATIENCE, stream.write_all(&answer.into_line())).await??;
    stream.shutdown().await?;
    // What the client still says must be read: closing before would take the answer from it.
    timeout(PATIENCE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await??;
    Ok(())
}

/// Up to a line end or the end; the inner error is for the client.
async fn read_line(stream: &mut UnixStream) -> io::Result<Result<Vec<u8>, String>> {
    let mut line = Vec::with_capacity(256);
    let mut limited = stream.take(REQUEST_MAX as u64);
    loop {
        let end = limited.read_buf(&mut line).await? == 0;
        if let Some(newline) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(newline);
            return Ok(Ok(line));
        }
        if end && line.len() == REQUEST_MAX {
            return Ok(Err(format!("a request has at most {REQUEST_MAX} bytes")));
        }
        if end {
            return Ok(Ok(line));
        }
    }
}

fn refuse_if_taken(path: &Path) -> io::Result<()> {
    let in_use = |message: &str| Err(io::Error::new(ErrorKind::AddrInUse, message.to_owned()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => in_use("a file that is no socket is there"),
        Ok(_) => match StdStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => in_use("another process answers there; is vipgate running already?"),
        },
    }
}

/// Removes the file when dropped, unless another process has put its own in place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn of(path: PathBuf) -> io::Result<Self> {
        let found = fs::symlink_metadata(&path)?;
        Ok(Self { path, device: found.dev(), inode: found.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
