//! Objects from a cluster's API server: one list and watch for each kind.
//!
//! Credentials come from a kubeconfig or from the pod the process runs in. Two kinds are followed side by side:
//! Services and EndpointSlices; see [`follow`] for how.

mod backoff;
mod follow;

use std::path::Path;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
/// A connection to an API server.
pub use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::control::{Ended, Handle};
use crate::object::slice::trigger_time;
use crate::object::{self, Kind, Object, Parsed, Problem};
use crate::source::Change;
use follow::{Followed, follow};

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig, or the choice of a context in it.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Not inside a cluster.
    #[error("no service account: outside a cluster, name a kubeconfig ({0})")]
    InCluster(#[from] kube::config::InClusterError),
    /// Certificates or the address.
    #[error("API client: {0}")]
    Client(#[from] kube::Error),
}

/// A client for the cluster of a kubeconfig and context. With neither, the cluster this process runs in; with a context
/// only, the default kubeconfig.
pub async fn connect(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> Result<Client, ConnectError> {
    let options =
        KubeConfigOptions { context: context.map(Into::into), ..KubeConfigOptions::default() };
    let config = match (kubeconfig, context) {
        (Some(path), _) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
        }
        (None, Some(_)) => Config::from_kubeconfig(&options).await?,
        (None, None) => Config::incluster()?,
    };
    client(config)
}

/// A client that leaves retries to us: hidden ones would hide how old the tables are.
pub fn client(mut config: Config) -> Result<Client, ConnectError> {
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

/// Which objects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that packets can be for.
    Addressed,
    /// Headless Services and their slices too: DNS answers for them.
    All,
}

/// Follows the cluster until the control loop ends.
pub async fn run(client: Client, scope: Scope, handle: Handle) -> Result<(), Ended> {
    tokio::try_join!(
        follow::<Service>(client.clone(), scope, handle.clone()),
        follow::<EndpointSlice>(client, scope, handle),
    )?;
    Ok(())
}

impl Followed for Service {
    const KIND: Kind = Kind::Service;
    // EXC-6: headless Services have no rows.
    const FIELDS: Option<&'static str> = Some("spec.clusterIP!=None");
    const LABELS: Option<&'static str> = None;

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::Service::parse(self)?;
        Ok(Change { object: Object::Service(object), problems, trigger: None })
    }
}

impl Followed for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    const FIELDS: Option<&'static str> = None;
    // EXC-3
    const LABELS: Option<&'static str> = Some("!service.kubernetes.io/headless");

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::Slice::parse(self)?;
        let trigger = trigger_time(&self.metadata);
        Ok(Change { object: Object::Slice(object), problems, trigger })
    }
}
