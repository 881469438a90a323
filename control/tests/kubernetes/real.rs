//! What holds at any API server: against the fake, and against a cluster.
//!
//! `VIPGATE_TEST_KUBECONFIG=FILE cargo test -p control --test kubernetes real` runs these tests against the cluster that the
//! file's present context names, as a user who may do everything. Each makes a namespace of its own, and deletes it in the
//! end, also when it fails; it looks at the rows of that namespace only. Without the variable the fake answers.
//!
//! Services here have no selector and their slices are written by hand, so that no controller takes part.

use std::path::Path;
use std::time::{Duration, SystemTime};

use control::control::Handle;
use control::source::kubernetes::{self, Scope};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::{Value, json};
use tokio::task::{LocalSet, spawn_local};

use super::support::fake_api::FakeApi;
use super::support::follow::{follow, until_rows};

/// A namespace in the cluster, and a gateway that follows the cluster.
struct World {
    client: Client,
    namespace: String,
    handle: Handle,
}

/// Runs a test in a namespace of its own.
async fn in_a_namespace(test: impl AsyncFnOnce(World) + 'static) {
    let client = match std::env::var_os("VIPGATE_TEST_KUBECONFIG") {
        Some(file) => kubernetes::connect(Some(Path::new(&file)), None).await,
        None => {
            let (_, url) = FakeApi::start().await;
            kubernetes::client(kube::Config::new(url.parse().expect("a URL")))
        }
    };
    let client = client.expect("a client");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a right clock");
    let namespace = format!("vipgate-test-{}-{}", std::process::id(), since.as_nanos());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let object = read(json!({"metadata": {"name": namespace}}));
    namespaces.create(&PostParams::default(), &object).await.expect("a namespace");
    let tasks = LocalSet::new();
    let world = World {
        handle: follow(&tasks, client.clone(), Scope::Addressed),
        client,
        namespace: namespace.clone(),
    };
    // The panic of a task is not ours: the namespace must go first.
    let outcome = tasks.run_until(async { spawn_local(test(world)).await }).await;
    namespaces.delete(&namespace, &DeleteParams::default()).await.expect("deleted");
    outcome.expect("the test passes");
}

impl World {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a Service and returns its cluster IP.
    async fn service(&self, name: &str, spec: Value) -> String {
        let object: Service = read(json!({"metadata": {"name": name}, "spec": spec}));
        let created = self.api::<Service>().create(&PostParams::default(), &object).await;
        let spec = created.expect("created").spec.expect("it has one");
        spec.cluster_ip.unwrap_or_default()
    }

    /// Creates a slice of a Service's port `http`.
    async fn slice(&self, service: &str, name: &str, addresses: &[&str]) {
        let endpoints: Vec<Value> =
            addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        let labels = json!({"kubernetes.io/service-name": service, "endpointslice.kubernetes.io/managed-by": "tests.vipgate"});
        let object: EndpointSlice = read(json!({"metadata": {"name": name, "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]}));
        let created = self.api::<EndpointSlice>().create(&PostParams::default(), &object).await;
        created.expect("created");
    }

    async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let patched =
            self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.expect("patched");
    }

    async fn delete<K>(&self, name: &str)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    /// Waits until these are the rows of the namespace, named without it.
    async fn until(&self, expected: &[String]) {
        until_in(&self.handle, &self.namespace, expected).await;
    }
}

async fn until_in(handle: &Handle, namespace: &str, expected: &[String]) {
    let prefix = format!("{namespace}/");
    let good = |rows: &[String]| {
        rows.iter().filter_map(|row| row.strip_prefix(&prefix)).eq(expected.iter())
    };
    until_rows(handle, good, &expected.join("\n")).await;
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("readable")
}

fn http(port: u16) -> Value {
    json!({"ports": [{"name": "http", "port": port}]})
}

/// OBJ-11, SYN-4: created, changed, deleted, created again.
#[tokio::test]
async fn obj_11_a_services_life() {
    in_a_namespace(async |world: World| {
        let ip = world.service("web", http(80)).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> nobody")]).await;
        world.slice("web", "web-1", &["198.18.1.1", "198.18.1.2"]).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> 198.18.1.1:8080 198.18.1.2:8080")]).await;
        world.patch::<Service>("web", json!({"spec": http(81)})).await;
        world.until(&[format!("web:http/tcp {ip}:81 -> 198.18.1.1:8080 198.18.1.2:8080")]).await;
        world.slice("web", "web-2", &["198.18.1.3"]).await;
        world.delete::<EndpointSlice>("web-1").await;
        world.until(&[format!("web:http/tcp {ip}:81 -> 198.18.1.3:8080")]).await;
        world.delete::<Service>("web").await;
        world.until(&[]).await;
        let ip = world.service("web", http(80)).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> 198.18.1.3:8080")]).await;
    })
    .await;
}

/// EPS-13: empty lists come back as null.
#[tokio::test]
async fn eps_13_null_endpoints_after_some() {
    in_a_namespace(async |world: World| {
        let ip = world.service("web", http(80)).await;
        world.slice("web", "web-1", &[]).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> nobody")]).await;
        let one = json!([{"addresses": ["198.18.1.1"]}]);
        world.patch::<EndpointSlice>("web-1", json!({"endpoints": one})).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> 198.18.1.1:8080")]).await;
        world.patch::<EndpointSlice>("web-1", json!({"endpoints": []})).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> nobody")]).await;
    })
    .await;
}

/// EXC-2, EXC-3, EXC-5, EXC-6: what is left to others comes and goes with labels and types.
#[tokio::test]
async fn exc_2_labels_take_services_and_slices_away() {
    in_a_namespace(async |world: World| {
        let ip = world.service("web", http(80)).await;
        world.slice("web", "web-1", &["198.18.1.1"]).await;
        world.service("headless", json!({"clusterIP": "None", "ports": [{"port": 80}]})).await;
        let served = format!("web:http/tcp {ip}:80 -> 198.18.1.1:8080");
        world.until(std::slice::from_ref(&served)).await;
        let proxy = |name: Value| json!({"metadata": {"labels": {"service.kubernetes.io/service-proxy-name": name}}});
        world.patch::<Service>("web", proxy("other".into())).await;
        world.until(&[]).await;
        world.patch::<Service>("web", proxy(Value::Null)).await;
        world.until(std::slice::from_ref(&served)).await;
        let headless = |value: Value| json!({"metadata": {"labels": {"service.kubernetes.io/headless": value}}});
        world.patch::<EndpointSlice>("web-1", headless("".into())).await;
        world.until(&[format!("web:http/tcp {ip}:80 -> nobody")]).await;
        world.patch::<EndpointSlice>("web-1", headless(Value::Null)).await;
        world.until(&[served]).await;
        let external = json!({"spec": {"type": "ExternalName", "externalName": "example.org", "clusterIP": null, "clusterIPs": null}});
        world.patch::<Service>("web", external).await;
        world.until(&[]).await;
    })
    .await;
}

/// LBR-1, LBR-2: addresses that somebody writes into the status.
#[tokio::test]
async fn lbr_1_addresses_in_the_status() {
    in_a_namespace(async |world: World| {
        let mut spec = http(80);
        spec["type"] = "LoadBalancer".into();
        spec["loadBalancerClass"] = "tests.vipgate/none".into();
        spec["allocateLoadBalancerNodePorts"] = false.into();
        let ip = world.service("lb", spec).await;
        world.until(&[format!("lb:http/tcp {ip}:80 -> nobody")]).await;
        for (mode, vip) in [("VIP", " 203.0.113.250:80"), ("Proxy", "")] {
            let ingress = json!([{"ip": "203.0.113.250", "ipMode": mode}]);
            let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
            let services = world.api::<Service>();
            let patched = services.patch_status("lb", &PatchParams::default(), &patch).await;
            patched.expect("patched");
            world.until(&[format!("lb:http/tcp {ip}:80{vip} -> nobody")]).await;
        }
    })
    .await;
}

/// SYN-1, SYN-9: one that comes later lists what the first one heard of bit by bit.
#[tokio::test]
async fn syn_9_a_second_gateway_sees_the_same() {
    in_a_namespace(async |world: World| {
        let mut expected = Vec::new();
        for n in 1..4 {
            let name = format!("s{n}");
            let ip = world.service(&name, http(80)).await;
            world.slice(&name, &format!("{name}-x"), &[&format!("198.18.1.{n}")]).await;
            expected.push(format!("{name}:http/tcp {ip}:80 -> 198.18.1.{n}:8080"));
        }
        world.until(&expected).await;
        let tasks = LocalSet::new();
        let second = follow(&tasks, world.client.clone(), Scope::All);
        tasks.run_until(until_in(&second, &world.namespace, &expected)).await;
        world.delete::<Service>("s2").await;
        expected.remove(1);
        world.until(&expected).await;
        let limit = Duration::from_secs(60);
        let both = tasks.run_until(until_in(&second, &world.namespace, &expected));
        tokio::time::timeout(limit, both).await.expect("in time");
    })
    .await;
}
