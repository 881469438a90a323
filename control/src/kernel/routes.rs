//! Static routes of the configuration, put into the kernel so that `ip route` shows them.
//!
//! They vanish with their twin. The mirror reads them back like any other route.

use std::net::IpAddr;

use rtnetlink::{Handle, RouteMessageBuilder};

use super::twin::Twin;
use super::{KernelError, io_error};
use crate::config::PortRoute;

/// Adds routes over a twin, in order, replacing routes of the same prefix.
///
/// # Errors
/// [`KernelError::Route`] for the first one the kernel refuses.
pub async fn install(
    netlink: &Handle,
    twin: &Twin,
    routes: &[PortRoute],
) -> Result<(), KernelError> {
    for PortRoute { to, via } in routes {
        let failed =
            |source| KernelError::Route { to: *to, device: twin.name().to_owned(), source };
        let message = RouteMessageBuilder::<IpAddr>::new()
            .output_interface(twin.index())
            .destination_prefix(to.network(), to.prefix_len())
            .and_then(|message| message.gateway(*via))
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let request = netlink.route().add(message.build()).replace();
        request.execute().await.map_err(|error| failed(io_error(error)))?;
    }
    Ok(())
}
