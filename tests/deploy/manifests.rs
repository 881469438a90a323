//! `deploy/kubernetes*`: read by Kubernetes' own types, and by each other.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Namespace, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{text, top};

const BASE: &str = "deploy/kubernetes";
const OVERLAY: &str = "deploy/kubernetes-af-packet";

/// As much of a kustomization as these use; another field is a mistake until it is added here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: String,
    resources: Vec<String>,
    config_map_generator: Vec<ConfigMap>,
    #[serde(default)]
    patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigMap {
    name: String,
    behavior: Option<String>,
    files: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    target: Target,
    patch: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: String,
    path: String,
    value: Value,
}

/// What the DaemonSet's container may do, for the test that starts one like it.
pub(crate) fn container() -> Container {
    pod(&base_daemon_set()).containers.remove(0)
}

/// API group, resource and verb of all that the role allows.
pub(crate) fn granted() -> BTreeSet<[String; 3]> {
    let role: ClusterRole = only(BASE);
    let mut granted = BTreeSet::new();
    for rule in role.rules.expect("rules") {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    granted.insert([group.clone(), resource.clone(), verb.clone()]);
                }
            }
        }
    }
    granted
}

#[test]
fn every_manifest_is_what_kubernetes_reads() {
    for document in documents(BASE) {
        match document["kind"].as_str().expect("a kind") {
            "Namespace" => drop(typed::<Namespace>(&document)),
            "ServiceAccount" => drop(typed::<ServiceAccount>(&document)),
            "ClusterRole" => drop(typed::<ClusterRole>(&document)),
            "ClusterRoleBinding" => drop(typed::<ClusterRoleBinding>(&document)),
            "DaemonSet" => drop(typed::<DaemonSet>(&document)),
            kind => panic!("a {kind}, which nothing here checks"),
        }
    }
    typed::<DaemonSet>(&patched());
}

#[test]
fn kustomizations_name_the_files_there_are() {
    for folder in [BASE, OVERLAY] {
        let kustomization = kustomization(folder);
        assert_eq!(kustomization.api_version, "kustomize.config.k8s.io/v1beta1");
        assert_eq!(kustomization.kind, "Kustomization");
        assert_eq!(kustomization.namespace, "vipgate");
        let generated = kustomization.config_map_generator.iter().flat_map(|map| &map.files);
        let mut named: BTreeSet<String> = generated.cloned().collect();
        named
            .extend(kustomization.resources.iter().filter(|name| name.ends_with(".yaml")).cloned());
        named.insert("kustomization.yaml".into());
        let entries = fs::read_dir(top().join(folder)).expect("a folder");
        let there = entries.map(|entry| entry.expect("readable").file_name().into_string());
        assert_eq!(named, there.map(|name| name.expect("a name")).collect(), "{folder}");
        for map in kustomization.config_map_generator {
            assert_eq!((map.name.as_str(), map.files.len()), ("vipgate", 1), "{folder}");
            assert_eq!(map.behavior.as_deref(), (folder == OVERLAY).then_some("replace"));
        }
    }
    assert_eq!(kustomization(OVERLAY).resources, ["../kubernetes"]);
}

#[test]
fn the_parts_fit_together() {
    let account: ServiceAccount = only(BASE);
    let role: ClusterRole = only(BASE);
    let binding: ClusterRoleBinding = only(BASE);
    let namespace: Namespace = only(BASE);
    let set = base_daemon_set();
    let namespace = namespace.metadata.name.expect("a name");
    let account = account.metadata.name.expect("a name");
    assert_eq!(set.metadata.namespace.as_ref(), Some(&namespace));
    assert_eq!(binding.role_ref.name, role.metadata.name.expect("a name"));
    let subject = &binding.subjects.expect("a subject")[0];
    assert_eq!(
        (&subject.name, subject.namespace.as_ref(), subject.kind.as_str()),
        (&account, Some(&namespace), "ServiceAccount")
    );
    assert_eq!(pod(&set).service_account_name, Some(account));

    let spec = set.spec;
    let labels = spec.template.metadata.expect("metadata").labels.expect("labels");
    assert_eq!(spec.selector.match_labels, Some(labels));
    let pod = spec.template.spec.expect("a spec");
    let volumes = pod.volumes.iter().flatten().map(|volume| volume.name.clone());
    let container = container();
    let mounts = container.volume_mounts.iter().flatten();
    let mounts: BTreeSet<String> = mounts.map(|mount| mount.name.clone()).collect();
    assert_eq!(mounts, volumes.collect());
    let image = format!("vipgate:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(container.image.as_ref(), Some(&image));
    assert!(text("deploy/Dockerfile").contains(&format!("-t {image} ")));
}

/// Whole CPUs in a pod of class Guaranteed are what the static CPU manager makes exclusive.
#[test]
fn cpus_are_whole_and_resources_guaranteed() {
    for set in [base_daemon_set(), typed(&patched())] {
        let pod = pod(&set);
        assert_eq!((pod.containers.len(), pod.init_containers), (1, None));
        let resources = pod.containers[0].resources.clone().expect("resources");
        assert_eq!(resources.requests, resources.limits);
        let limits = resources.limits.expect("limits");
        assert!(limits.contains_key("memory"));
        let cpus: u32 = limits["cpu"].0.parse().expect("a whole number");
        // The first core is the control thread's.
        if let Some(huge) = limits.get("hugepages-2Mi") {
            assert_eq!(huge.0, format!("{}Mi", (cpus - 1) * 512));
        }
    }
}

#[test]
fn the_container_is_not_privileged() {
    let pod = pod(&base_daemon_set());
    assert_eq!((pod.host_pid, pod.host_ipc), (None, None));
    let context = container().security_context.expect("a security context");
    assert_eq!(context.privileged, Some(false));
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    assert_eq!(context.capabilities.and_then(|set| set.drop), Some(vec!["ALL".to_owned()]));
    let hosts = pod.volumes.iter().flatten().filter_map(|volume| volume.host_path.as_ref());
    assert_eq!(hosts.map(|host| host.path.as_str()).collect::<Vec<_>>(), ["/dev/net/tun"]);
}

#[test]
fn the_configurations_are_valid_and_where_the_probes_ask() {
    let container = container();
    let args = container.args.expect("arguments");
    assert_eq!(args, ["run", "--config", "/etc/vipgate/vipgate.yaml"]);
    for folder in [BASE, OVERLAY] {
        let path = format!("{folder}/vipgate.yaml");
        let mut check = Command::new(env!("CARGO_BIN_EXE_vipgate"));
        let check = check.args(["config", "check", "--config"]).arg(top().join(&path));
        let check = check.env("NODE_NAME", "edge-1");
        let output = check.output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let config: Value = serde_saphyr::from_str(&text(&path)).expect("YAML");
        let probes =
            [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
        let pages = probes.map(|probe| {
            let get = probe.as_ref().and_then(|probe| probe.http_get.as_ref()).expect("a page");
            let HTTPGetAction { host, port, path, .. } = get;
            let port = serde_json::to_value(port).expect("a port");
            assert_eq!(
                config["http"]["address"],
                format!("{}:{port}", host.as_ref().expect("a host"))
            );
            path.as_deref()
        });
        assert_eq!(pages, [Some("/livez"), Some("/livez"), Some("/readyz")]);
    }
}

/// The DaemonSet with the overlay's patches.
fn patched() -> Value {
    let mut set = serde_json::to_value(base_daemon_set()).expect("plain data");
    for Patch { target, patch } in kustomization(OVERLAY).patches {
        assert_eq!((target.kind.as_str(), target.name.as_str()), ("DaemonSet", "vipgate"));
        let operations: Vec<Operation> = serde_saphyr::from_str(&patch).expect("a JSON patch");
        for Operation { op, path, value } in operations {
            assert_eq!(op, "replace");
            *set.pointer_mut(&path).unwrap_or_else(|| panic!("nothing at {path}")) = value;
        }
    }
    set
}

fn base_daemon_set() -> DaemonSet {
    only(BASE)
}

fn pod(set: &DaemonSet) -> PodSpec {
    set.spec.template.spec.clone().expect("a pod")
}

/// The one object of a kind in a folder.
fn only<T: k8s_openapi::Resource + DeserializeOwned + Serialize>(folder: &str) -> T {
    let mut found = documents(folder).into_iter().filter(|object| object["kind"] == T::KIND);
    let object = found.next().unwrap_or_else(|| panic!("no {}", T::KIND));
    assert!(found.next().is_none(), "more than one {}", T::KIND);
    typed(&object)
}

fn kustomization(folder: &str) -> Kustomization {
    let path = format!("{folder}/kustomization.yaml");
    serde_saphyr::from_str(&text(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All objects that a kustomization names.
fn documents(folder: &str) -> Vec<Value> {
    let files = kustomization(folder).resources;
    let read = |file: &String| -> Vec<Value> {
        serde_saphyr::from_multiple(&text(&format!("{folder}/{file}"))).expect("YAML")
    };
    files.iter().flat_map(read).collect()
}

/// Reads and writes an object. What the type does not know is lost on the way, and what it requires comes to light.
fn typed<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let name = json!([object["kind"], object["metadata"]["name"]]);
    let typed: T = serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(&serde_json::to_value(&typed).expect("plain data"), object, "{name}");
    typed
}
