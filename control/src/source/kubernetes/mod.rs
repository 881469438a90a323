//! Objects from a cluster's API server: one list and watch for each kind.
//!
//! Credentials come from a kubeconfig or from the pod the process runs in. Services and EndpointSlices are followed side by
//! side; see [`follow`] for how. Without the rest a gateway works too, so it waits for none of it for long: the Node of
//! the configured name, ServiceCIDRs, and the right to post Events. Which rights there are is asked first ([`access`]).

mod access;
mod follow;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
/// A connection to an API server.
pub use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use tokio::sync::mpsc;
use tokio::time;

use crate::control::{Ended, Handle};
use crate::events::{self, Sink};
use crate::object::slice::trigger_time;
use crate::object::{self, Kind, Object, Parsed, Problem};
use crate::source::Change;
use access::Feature;
use follow::{Followed, Selection, follow};

/// How long Services wait for what comes before them: tables without the node's zone would be replaced at once.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// What a gateway wants of a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Services it serves.
    pub scope: Scope,
    /// The node it is, if it is one.
    pub node_name: Option<Arc<str>>,
    /// Counts the Events it posts.
    pub events: Arc<events::Counters>,
}

/// Follows all there is to follow in the cluster, and posts Events, until the control loop ends.
pub async fn run(client: Client, options: Options, handle: Handle) -> Result<(), Ended> {
    let Options { scope, node_name, events } = options;
    let (first, mut awaited) = mpsc::channel(1);
    let rest = rest(client.clone(), node_name, events, first, handle.clone());
    let services = async {
        // Closed when the rest has been heard of, or is not to be had. No matter if not in time.
        let _ = time::timeout(PATIENCE, awaited.recv()).await;
        follow_services(client, scope, handle).await
    };
    tokio::try_join!(rest, services)?;
    Ok(())
}

/// Follows Services and their slices until the control loop ends.
pub async fn follow_services(client: Client, scope: Scope, handle: Handle) -> Result<(), Ended> {
    let selector = |text: &str| (scope == Scope::Addressed).then(|| text.to_owned());
    // EXC-6: headless Services have no rows.
    let services = Selection { fields: selector("spec.clusterIP!=None"), labels: None };
    // EXC-3
    let slices = Selection { fields: None, labels: selector("!service.kubernetes.io/headless") };
    tokio::try_join!(
        follow::<Service>(client.clone(), services, handle.clone(), None),
        follow::<EndpointSlice>(client, slices, handle, None),
    )?;
    Ok(())
}

/// What a gateway can do without, as far as this account may.
async fn rest(
    client: Client,
    node_name: Option<Arc<str>>,
    counters: Arc<events::Counters>,
    first: mpsc::Sender<()>,
    handle: Handle,
) -> Result<(), Ended> {
    let mut features = vec![Feature::Services, Feature::ServiceCidrs, Feature::Events];
    features.extend(node_name.as_ref().map(|_| Feature::Node));
    let denied = access::check(&client, &features).await;
    let (before_node, before_ranges) = (first.clone(), first);
    let node = async {
        let first = before_node;
        let Some(name) = node_name.as_deref().filter(|_| denied.allows(Feature::Node)) else {
            return Ok(());
        };
        let only = Selection { fields: Some(format!("metadata.name={name}")), labels: None };
        follow::<Node>(client.clone(), only, handle.clone(), Some(first)).await
    };
    let ranges = async {
        let first = before_ranges;
        if !denied.allows(Feature::ServiceCidrs) {
            return Ok(());
        }
        let (client, all) = (client.clone(), Selection::default());
        follow::<ServiceCIDR>(client, all, handle.clone(), Some(first)).await
    };
    let events = async {
        if !denied.allows(Feature::Events) {
            return Ok(());
        }
        let sink = Sink::api(client.clone(), node_name.as_deref());
        events::run(sink, handle.clone(), counters).await
    };
    tokio::try_join!(node, ranges, events)?;
    Ok(())
}

impl Followed for Service {
    const KIND: Kind = Kind::Service;
    const WITHOUT: Option<&'static str> = None;

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::Service::parse(self)?;
        Ok(Change { object: Object::Service(object), problems, trigger: None })
    }
}

impl Followed for EndpointSlice {
    const KIND: Kind = Kind::EndpointSlice;
    const WITHOUT: Option<&'static str> = None;

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::Slice::parse(self)?;
        let trigger = trigger_time(&self.metadata);
        Ok(Change { object: Object::Slice(object), problems, trigger })
    }
}

impl Followed for Node {
    const KIND: Kind = Kind::Node;
    const WITHOUT: Option<&'static str> = Some("what is configured of the node counts alone");

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::Node::parse(self)?;
        Ok(Change { object: Object::Node(object), problems, trigger: None })
    }
}

impl Followed for ServiceCIDR {
    const KIND: Kind = Kind::ServiceCidr;
    const WITHOUT: Option<&'static str> =
        Some("services.serviceCIDRs of the configuration count alone");

    fn read(&self) -> Result<Change, Box<Problem>> {
        let Parsed { object, problems } = object::ServiceCidr::parse(self)?;
        Ok(Change { object: Object::ServiceCidr(object), problems, trigger: None })
    }
}
