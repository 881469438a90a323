//! `vipgate explain` as scripts use it: manifests from a file, a folder or standard input, JSON in the order of the
//! questions, exit statuses.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const CONFIG: &str = "services: {nodeName: here, nodeIPs: [192.0.2.10], clusterCIDR: 10.0.0.0/16, serviceCIDRs: [172.30.0.0/16]}";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: demo}, \
     spec: {clusterIP: 172.30.0.41, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}";
const SLICE: &str = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
     metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, \
     ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.1.2]}, {addresses: [10.0.9.9]}]}";

/// Questions, and what is told of each but for the steps.
fn questions() -> [(&'static str, Value); 5] {
    let backend = |address: &str, masquerade| json!({"address": address, "masquerade": masquerade});
    [
        (
            "udp 10.0.9.9:1 -> 172.30.0.41:53",
            json!({"verdict": "reject", "service": "demo/web:dns", "reason": "no_endpoints"}),
        ),
        (
            "tcp 10.0.9.9:40000 -> 172.30.0.41:80",
            json!({
                "verdict": "dnat",
                "service": "demo/web:http",
                // The client is one of them (MSQ-2).
                "backends": [backend("10.0.1.2:8080", false), backend("10.0.9.9:8080", true)],
            }),
        ),
        (
            "tcp 203.0.113.7:40000 -> 172.30.9.9:80",
            json!({"verdict": "drop", "reason": "service_address_unallocated"}),
        ),
        (
            "tcp [2001:db8::7]:40000 -> [2001:db8::8]:80",
            json!({"verdict": "not-service", "reason": "no_service"}),
        ),
        (
            "tcp 10.0.9.9:40000 -> 172.30.0.41:81",
            json!({"verdict": "reject", "reason": "unknown_port"}),
        ),
    ]
}

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("vipgate-explain-{}-{name}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(folder.0.join("manifests")).expect("a folder");
        folder.write("vipgate.yaml", CONFIG);
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("writable");
        path
    }

    fn explain(&self, manifests: &Path, flows: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vipgate"));
        command.args(["explain", "-o", "json", "--config"]).arg(self.0.join("vipgate.yaml"));
        command.arg("--manifests").arg(manifests);
        command.args(flows.iter().flat_map(|flow| ["--flow", flow]));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // One that does not read its input has ended before.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

#[test]
fn answers_come_in_the_order_of_the_questions_from_everywhere() {
    let folder = Folder::new("everywhere");
    let both = format!("{SERVICE}\n---\n{SLICE}\n");
    let list = format!("{{apiVersion: v1, kind: List, items: [{SERVICE}, {SLICE}]}}");
    folder.write("manifests/a.yaml", SERVICE);
    folder.write("manifests/b.yml", SLICE);
    folder.write("manifests/notes.txt", "no manifest: {");
    let flows = questions().map(|(flow, _)| flow);
    for (what, manifests, input) in [
        ("folder", folder.0.join("manifests"), ""),
        ("file", folder.write("both.yaml", &both), ""),
        ("list", folder.write("list.json", &list), ""),
        ("standard input", "-".into(), &both),
    ] {
        let output = run(folder.explain(&manifests, &flows), input);
        assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let told = told.as_array().expect("a list");
        assert_eq!(told.len(), flows.len());
        for (told, (flow, expected)) in told.iter().zip(questions()) {
            assert_eq!(told["flow"], flow, "{what}");
            for key in ["verdict", "service", "backends", "reason"] {
                assert_eq!(told.get(key), expected.get(key), "{what}: {flow}: {key}");
            }
            let chosen = told.get("chosen");
            let all = told.get("backends").and_then(Value::as_array).into_iter().flatten();
            let is_one = all.map(|backend| &backend["address"]).any(|at| Some(at) == chosen);
            assert_eq!(chosen.is_some(), is_one, "{what}: {flow}");
        }
    }
}

#[test]
fn what_cannot_be_asked_fails_and_says_why() {
    let folder = Folder::new("fails");
    let manifests = folder.write("web.yaml", SERVICE);
    let absent = folder.0.join("absent");
    let good = "tcp 10.0.9.9:40000 -> 172.30.0.41:80";
    for (manifests, flows, said) in [
        (&manifests, &[good, "tcp 10.0.9.9 -> 172.30.0.41:80"][..], "is not an address and port"),
        (&manifests, &[], "--flow"),
        (&absent, &[good], "absent"),
    ] {
        let output = run(folder.explain(manifests, flows), "");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(said), "{flows:?}: {output:?}");
        assert_eq!(output.stdout, b"", "{flows:?}");
    }
    // What is wrong with an object is told; the questions are answered by the rest.
    let broken =
        folder.write("broken.yaml", &format!("{SERVICE}\n---\n{{kind: Service, metadata: [\n"));
    let output = run(folder.explain(&broken, &[good]), "");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.contains("broken.yaml"), "{output:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new("pipe");
    let manifests = folder.write("web.yaml", SERVICE);
    // More than a pipe holds.
    let flows = vec!["tcp 10.0.9.9:40000 -> 172.30.0.41:80"; 1000];
    let mut child = folder.explain(&manifests, &flows).spawn().expect("it starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stderr, b"");
}
