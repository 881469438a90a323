//! The first load: all objects at once into an empty gateway, and what they occupy.

use std::time::Instant;

use super::super::Error;
use super::cluster::{Cluster, ENDPOINTS};
use super::rig::Gateway;

/// Loads everything; seconds from the first event, as parsed objects, to the worker's acknowledgement.
pub(super) async fn load(gateway: &Gateway, cluster: &Cluster) -> Result<f64, Error> {
    let events = cluster.events();
    let before = gateway.seen();
    let start = Instant::now();
    for event in events {
        gateway.send(event).await?;
    }
    let seen = gateway.newer_than(before).await?;
    check(gateway, cluster.services, cluster.services * ENDPOINTS).await?;
    Ok((seen - start).as_secs_f64())
}

/// Whether the tables hold what they should, and the worker has them.
pub(super) async fn check(
    gateway: &Gateway,
    services: usize,
    endpoints: usize,
) -> Result<(), Error> {
    let view = gateway.handle.inspect(move |view| {
        let sizes = view.assembly.sizes();
        let table = &view.publisher.tables().services;
        (sizes.services, sizes.endpoints, table.endpoints().count(), view.publisher.generation())
    });
    let (found, listed, in_table, generation) =
        view.await.map_err(|error| Error(error.to_string()))?;
    if (found, listed, in_table) != (services, endpoints, endpoints) {
        let why = format!(
            "the tables hold {found} Services and {listed} endpoints ({in_table} addresses), not {services} and {endpoints}"
        );
        return Err(Error(why));
    }
    if gateway.seen() < generation {
        gateway.newer_than(generation - 1).await?;
    }
    Ok(())
}

/// Resident memory of this process in bytes.
pub(super) fn resident() -> Result<f64, Error> {
    let status = std::fs::read_to_string("/proc/self/status");
    let status = status.map_err(|error| Error(format!("/proc/self/status: {error}")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| Error("/proc/self/status has no VmRSS".into()))
}
