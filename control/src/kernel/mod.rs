//! The node's own kernel: its twin devices, and its routes, neighbours and addresses as the workers' table.
//!
//! Job: give the kernel what is not ours (ARP and NDP for node addresses, SSH, BGP, kubelet) and take over what it
//! knows, so that `ip route`, FRR or BIRD configure the gateway.
//! - [`twin`]: a TAP device per port; frames between the workers' queues and the kernel.
//! - [`routes`]: static routes of the configuration, put into the kernel.
//! - [`mirror`]: kernel state read by netlink, as a [`dataplane::fib::FibSpec`].
//! - [`bell`]: how workers wake those who look at their queues.
//! - [`resolve`]: asks the kernel for the MAC addresses of next hops and keeps them fresh.
//!
//! Invariants: workers never wait for anything here, all queues are bounded; whatever is lost is counted or read again.
//! Everything runs on the control thread, in the network namespace of the process, and needs CAP_NET_ADMIN there.

pub mod bell;
mod message;
pub mod mirror;
mod observed;
pub mod resolve;
pub mod routes;
pub mod twin;
pub mod underlay;

use std::io;

use ipnet::IpNet;
/// A netlink connection that requests go over.
pub use rtnetlink::Handle;

/// What can go wrong between vipgate and the kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// The TAP device could not be opened.
    #[error("cannot open TAP device {device}: {source}; {}", tap_remedy(source))]
    OpenTap {
        /// Name of the device.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TAP device exists but could not be set up.
    #[error("cannot {action} of TAP device {device}: {source}; CAP_NET_ADMIN is needed")]
    Configure {
        /// Name of the device.
        device: String,
        /// What was tried, as in "set the MAC address".
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TAP device stopped working.
    #[error("TAP device {device} is gone: {source}; it must not be deleted while vipgate runs")]
    Lost {
        /// Name of the device.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A static route was refused.
    #[error("cannot add route {to} to {device}: {source}; `via` must lie in a prefix of the port")]
    Route {
        /// Destination prefix.
        to: IpNet,
        /// Name of the device.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// No netlink socket.
    #[error(
        "cannot open a netlink socket: {0}; CONFIG_NETLINK and a free file descriptor are needed"
    )]
    Socket(#[source] io::Error),
    /// A listing of kernel state failed.
    #[error("cannot list {what} of the kernel: {source}")]
    Dump {
        /// What was listed.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's notifications ended.
    #[error("the kernel's notifications ended")]
    Ended,
}

/// A netlink connection for requests, served by a task of the current tokio runtime.
///
/// # Errors
/// [`KernelError::Socket`].
pub fn connect() -> Result<Handle, KernelError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Socket)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// The error number behind a netlink error, where there is one.
fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn tap_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "CAP_NET_ADMIN and access to /dev/net/tun are needed",
        io::ErrorKind::NotFound => "/dev/net/tun is missing: load the module `tun`",
        io::ErrorKind::ResourceBusy => "another process uses it: stop that or configure a new name",
        io::ErrorKind::InvalidInput => "the name is longer than 15 bytes or another kind of device",
        _ => "see the kernel's log",
    }
}
