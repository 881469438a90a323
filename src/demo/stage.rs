//! The scenery, put up in order: two namespaces, two cables, backends, the gateway.

use super::child::Role;
use super::failure::Failure;
use super::gateway::Gateway;
use super::links;
use super::manifests::Conditions;
use super::peer::Peer;
use super::plan::{BACKENDS, INSIDE, OUTSIDE};
use super::talk::{ToBackends, ToClient};

/// Everything that runs. Dropping it ends it all.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) client: Peer,
    pub(super) backends: Peer,
    pub(super) gateway: Gateway,
}

impl Stage {
    /// With all backends but the last one.
    pub(super) fn build(conditions: &Conditions) -> Result<Self, Failure> {
        let mut client = Peer::start(Role::Client)?;
        let mut backends = Peer::start(Role::Backends)?;
        links::lay(OUTSIDE, client.id())?;
        links::lay(INSIDE, backends.id())?;
        client.ask::<()>(&ToClient::Connect)?;
        backends.ask::<()>(&ToBackends::Connect)?;
        for backend in &BACKENDS[..BACKENDS.len() - 1] {
            backends.ask::<()>(&ToBackends::Start { backend: backend.name.to_owned() })?;
        }
        let gateway = Gateway::start(conditions)?;
        Ok(Self { client, backends, gateway })
    }

    /// All processes, the demo's own included.
    pub(super) fn processes(&self) -> [u32; 4] {
        [std::process::id(), self.client.id(), self.backends.id(), self.gateway.id()]
    }
}
