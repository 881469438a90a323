//! The shape of the file: which keys there are. Values stay text with a position; `check` reads them.

use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use crate::settings::Settings;

/// One value as written, with its position.
pub(super) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct File {
    pub(super) ports: Option<Vec<Spanned<Port>>>,
    pub(super) workers: Option<Workers>,
    pub(super) memory: Option<Memory>,
    pub(super) conntrack: Option<Conntrack>,
    pub(super) masquerade: Option<Masquerade>,
    pub(super) source: Option<Spanned<Source>>,
    pub(super) services: Option<Settings>,
    pub(super) http: Option<Http>,
    pub(super) dns: Option<Spanned<Dns>>,
    pub(super) admin: Option<Admin>,
    pub(super) fleet_seed: Option<Text>,
    pub(super) log: Option<Log>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) name: Text,
    pub(super) pci: Option<Text>,
    pub(super) vdev: Option<Text>,
    pub(super) mtu: Option<Text>,
    pub(super) mss_clamp: Option<Text>,
    pub(super) rss: Option<Text>,
    pub(super) descriptors: Option<Text>,
    pub(super) addresses: Option<Vec<Text>>,
    pub(super) routes: Option<Vec<Route>>,
    pub(super) twin: Option<Text>,
    pub(super) announce: Option<Vec<Text>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) to: Text,
    pub(super) via: Text,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Workers {
    pub(super) cores: Option<Spanned<Vec<Text>>>,
    pub(super) main_core: Option<Text>,
    pub(super) idle: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Memory {
    #[serde(rename = "hugePages")]
    pub(super) huge_pages: Option<Text>,
    #[serde(rename = "sizeMiB")]
    pub(super) size_mib: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Conntrack {
    pub(super) connections: Option<Text>,
    pub(super) connections_v6: Option<Text>,
    pub(super) affinity_clients: Option<Text>,
    pub(super) timeouts: Option<Timeouts>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Timeouts {
    pub(super) tcp_established: Option<Text>,
    pub(super) tcp_transitory: Option<Text>,
    pub(super) tcp_half_closed: Option<Text>,
    pub(super) tcp_half_open: Option<Text>,
    pub(super) udp: Option<Text>,
    pub(super) udp_stream: Option<Text>,
    pub(super) sctp_established: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Masquerade {
    pub(super) addresses: Option<Vec<Text>>,
    pub(super) ports: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    #[serde(default, deserialize_with = "present")]
    pub(super) manifests: Option<Spanned<Manifests>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) kubernetes: Option<Spanned<Kubernetes>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifests {
    pub(super) path: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    pub(super) kubeconfig: Option<Text>,
    pub(super) context: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) address: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dns {
    pub(super) addresses: Option<Vec<Text>>,
    pub(super) zone: Option<Text>,
    pub(super) ttl: Option<Text>,
    pub(super) upstreams: Option<Vec<Text>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) socket: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Option<Text>,
    pub(super) level: Option<Text>,
}

/// A key without a value counts as given: `kubernetes:` alone means in-cluster.
fn present<'de, D, T>(deserializer: D) -> Result<Option<Spanned<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    let Spanned { value, referenced, defined } = Spanned::<Option<T>>::deserialize(deserializer)?;
    Ok(Some(Spanned::new(value.unwrap_or_default(), referenced, defined)))
}
