//! Manifests in, rows and problems out.

mod support;

use std::path::PathBuf;
use std::time::Duration;

use control::assembly::Assembly;
use control::source::manifests::{self, Manifests};
use support::{assembly, problems, rows, settings, start, take};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// Files of the fixtures, put together as one text.
fn text(files: &[&str]) -> String {
    let read = |file: &&str| {
        std::fs::read_to_string(format!("{FIXTURES}/{file}.yaml")).expect("a fixture")
    };
    files.iter().map(read).collect::<Vec<_>>().join("\n---\n")
}

fn load(yaml: &str, options: &str) -> Assembly {
    let settings = settings(options);
    let mut assembly = assembly(settings.clone());
    let mut manifests = Manifests::new("unused", &settings);
    take(&mut assembly, manifests.load_text("a.yaml", yaml));
    assembly
}

#[test]
fn tutorial_examples_work_as_written() {
    let pods = "10.244.1.2:8080 10.244.2.2:8080";
    for (file, expected) in [
        ("clusterip", vec![format!("default/the-service:80/tcp 10.96.12.185:80 -> {pods}")]),
        ("nodeport", vec![format!("default/the-service:80/tcp 10.96.12.185:80 np4:80 -> {pods}")]),
        (
            "externalips",
            vec![format!(
                "default/the-service:80/tcp 10.96.12.185:80 80.11.12.10:80 np4:30763 -> {pods}"
            )],
        ),
        ("externalname", vec![]),
    ] {
        let file = format!("tutorial/{file}");
        let assembly = load(&text(&["tutorial/deployment", &file, "tutorial/pods"]), "{}");
        assert_eq!(rows(&assembly), expected, "{file}");
    }
    let assembly = load(&text(&["tutorial/mongo"]), "{}");
    assert_eq!(
        rows(&assembly),
        ["default/mongo:27017/tcp 10.96.176.100:27017 -> 35.188.8.12:49763"]
    );
    assert_eq!(problems(&assembly), [""; 0]);
}

#[test]
fn a_node_port_out_of_range_is_served_and_mentioned() {
    let assembly = load(&text(&["tutorial/nodeport"]), "{}");
    let [problem] = &problems(&assembly)[..] else { panic!("{:?}", problems(&assembly)) };
    assert!(
        problem.starts_with("a.yaml:13:7: Service default/the-service: spec.ports[0].nodePort: 80 is served as written"),
        "{problem}"
    );
}

#[test]
fn the_misindented_mongo_example_says_what_to_change() {
    let assembly = load(&text(&["tutorial/mongo-misindented"]), "{}");
    assert_eq!(
        problems(&assembly),
        [
            "a.yaml:4:1: name: metadata has no name; found `name` at the top level: indent it under `metadata`",
            "a.yaml:13:1: name: metadata has no name; found `name` at the top level: indent it under `metadata`",
            "a.yaml:17:7: subsets[0].addresses[0].ports: `ports` belongs to subsets[], not to subsets[].addresses[]: indent it like `addresses`",
        ]
    );
    assert_eq!(rows(&assembly), [""; 0]);
}

#[test]
fn objects_of_a_cluster_are_taken_as_they_are() {
    let node = "{nodeName: node1, nodeLabels: {topology.kubernetes.io/zone: z1}}";
    for (file, expected) in [
        (
            "dual-stack",
            &[
                "demo/prefer:http/tcp 10.96.100.4:80 -> 10.244.1.1:8080",
                "demo/prefer:http/tcp [fd00:10:96::4]:80 -> [fd00:10:244:1::1]:8080",
                "demo/v6first:http/tcp 10.96.100.7:80 -> 10.244.1.1:8080",
                "demo/v6first:http/tcp [fd00:10:96::7]:80 -> [fd00:10:244:1::1]:8080",
                "demo/v6only:http/tcp [fd00:10:96::6]:80 -> [fd00:10:244:1::1]:8080",
            ][..],
        ),
        ("headless", &[]),
        ("service-was-clusterip-now-externalname", &[]),
        ("slice-null", &["demo/empty:http/tcp 10.96.100.3:80 -> nobody"]),
        ("slice-zone-hints", &["demo/near:80/tcp 10.96.100.95:80 -> 10.244.1.1:8080"]),
        (
            "service-loadbalancer-mixed",
            &[
                "demo/lb:http/tcp 10.96.100.20:80 203.0.113.20:80 203.0.113.21:80 np4:30020 ->  | nobody",
            ],
        ),
        (
            "service-loadbalancer-proxy",
            &["demo/lb:http/tcp 10.96.100.20:80 np4:30020 ->  | nobody"],
        ),
        (
            "endpoints-mirrored",
            &["demo/manual:http/tcp 10.96.100.30:8080 -> 10.244.9.8:8080 10.244.9.9:8080"],
        ),
        (
            "slices-split",
            &[
                "demo/web:http/tcp 10.96.100.1:80 -> 10.244.1.1:8080 10.244.1.3:8080 10.244.1.5:8080 10.244.2.2:8080 10.244.2.4:8080",
            ],
        ),
        (
            "slices-three-named-ports",
            &[
                "demo/web:http/tcp 10.96.100.1:80 -> 10.244.1.1:8081 10.244.1.3:8083 10.244.2.2:8082",
                "demo/web:metrics/tcp 10.96.100.1:9090 -> 10.244.1.1:9090 10.244.1.3:9090 10.244.2.2:9090",
            ],
        ),
    ] {
        let assembly = load(&text(&[&format!("cluster/{file}")]), node);
        assert_eq!(problems(&assembly), [""; 0], "{file}");
        assert_eq!(rows(&assembly), expected, "{file}");
    }
}

const A: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}}";
const B: &str = "{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: 10.96.0.2, ports: [{port: 80}]}}";
const A_ROW: &str = "default/a:80/tcp 10.96.0.1:80 -> nobody";
const B_ROW: &str = "default/b:80/tcp 10.96.0.2:80 -> nobody";

#[test]
fn end_2_endpoints_of_selector_services_are_not_mirrored() {
    let endpoints = "{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 8080}]}]}";
    let selecting = A.replace("spec: {", "spec: {selector: {app: web}, ");
    for (service, row, noted) in [
        (A, "default/a:80/tcp 10.96.0.1:80 -> 192.0.2.1:8080", false),
        (&selecting, A_ROW, true),
        (B, B_ROW, true),
    ] {
        let assembly = load(&format!("{service}\n---\n{endpoints}"), "{}");
        assert_eq!(rows(&assembly), [row]);
        assert_eq!(problems(&assembly).len(), usize::from(noted), "{:?}", problems(&assembly));
    }
}

#[test]
fn obj_14_the_first_by_name_keeps_a_contested_address() {
    let contested = format!(
        "{}\n---\n{}",
        A.replace("spec: {", "spec: {externalIPs: [192.0.2.1], "),
        B.replace("spec: {", "spec: {externalIPs: [192.0.2.1], ")
    );
    let settings = settings("{}");
    let mut assembly = assembly(settings.clone());
    let mut manifests = Manifests::new("unused", &settings);
    take(&mut assembly, manifests.load_text("a.yaml", &contested));
    assert_eq!(rows(&assembly), ["default/a:80/tcp 10.96.0.1:80 192.0.2.1:80 -> nobody", B_ROW]);
    assert_eq!(
        problems(&assembly),
        [
            "Service default/b: tcp 192.0.2.1:80 belongs to Service default/a, which is older: it is not served for this one"
        ]
    );
    take(
        &mut assembly,
        manifests.load_text(
            "a.yaml",
            &format!("{A}\n---\n{}", B.replace("spec: {", "spec: {externalIPs: [192.0.2.1], ")),
        ),
    );
    assert_eq!(rows(&assembly), [A_ROW, "default/b:80/tcp 10.96.0.2:80 192.0.2.1:80 -> nobody"]);
    assert_eq!(problems(&assembly), [""; 0]);
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vipgate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("written");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn files_are_read_in_order_and_the_later_definition_wins() {
    let folder = Folder::new("order");
    folder.write("2.yaml", &A.replace("10.96.0.1", "10.96.0.7"));
    folder.write("1.yml", A);
    folder.write("3.json", B);
    folder.write(".hidden.yaml", "{");
    folder.write("notes.txt", "{");
    let mut assembly = assembly(settings("{}"));
    let mut manifests = Manifests::new(&folder.0, assembly.settings());
    let events = manifests.load().expect("readable");
    assert!(take(&mut assembly, events));
    assert_eq!(rows(&assembly), ["default/a:80/tcp 10.96.0.7:80 -> nobody", B_ROW]);
    let path = folder.0.display();
    assert_eq!(
        problems(&assembly),
        [format!(
            "{path}/2.yaml:1:1: Service default/a: it is defined again here: the one at {path}/1.yml:1:1 is not used"
        )]
    );
    assert!(manifests.load().expect("readable").is_empty(), "nothing changed");
    std::fs::remove_file(folder.0.join("2.yaml")).expect("removed");
    let events = manifests.load().expect("readable");
    take(&mut assembly, events);
    assert_eq!(rows(&assembly), [A_ROW, B_ROW]);
}

#[test]
fn a_broken_file_keeps_what_it_gave_and_costs_no_other() {
    let folder = Folder::new("broken");
    folder.write("1.yaml", &format!("{A}\n---\n{B}"));
    let mut assembly = assembly(settings("{}"));
    let mut manifests = Manifests::new(&folder.0, assembly.settings());
    let mut reload = |assembly: &mut Assembly| {
        let events = manifests.load().expect("readable");
        take(assembly, events)
    };
    reload(&mut assembly);
    assert_eq!(rows(&assembly), [A_ROW, B_ROW]);
    // The document of `a` is broken; `b` is gone, but who could tell.
    folder.write("1.yaml", "a: [\n");
    folder.write("2.yaml", &B.replace("name: b", "name: c").replace("10.96.0.2", "10.96.0.3"));
    assert!(reload(&mut assembly));
    assert_eq!(rows(&assembly), [A_ROW, B_ROW, "default/c:80/tcp 10.96.0.3:80 -> nobody"]);
    assert_eq!(problems(&assembly).len(), 1);
    // Whole again: what is missing now is missing on purpose.
    folder.write("1.yaml", B);
    assert!(reload(&mut assembly));
    assert_eq!(rows(&assembly), [B_ROW, "default/c:80/tcp 10.96.0.3:80 -> nobody"]);
    assert_eq!(problems(&assembly), [""; 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn changes_of_files_reach_the_workers() {
    let folder = Folder::new("watch");
    folder.write("a.yaml", A);
    let (handle, tasks) = start(settings("{}"));
    let manifests = Manifests::new(&folder.0, &settings("{}"));
    tasks.spawn_local(manifests::run(manifests, handle.clone()));
    let test = async {
        let done = |services| {
            move |status: &control::control::Status| {
                status.sizes.services == services && status.acknowledged == status.generation
            }
        };
        let status = handle.wait_for(done(1)).await.expect("runs");
        assert!(status.synced);
        folder.write("b.yaml", B);
        handle.wait_for(done(2)).await.expect("runs");
        // A ConfigMap volume: files are links through a link that is replaced.
        std::fs::remove_file(folder.0.join("a.yaml")).expect("removed");
        handle.wait_for(done(1)).await.expect("runs");
        std::fs::create_dir(folder.0.join("..1")).expect("made");
        folder.write("..1/c.yaml", A);
        std::os::unix::fs::symlink("..1", folder.0.join("..data")).expect("linked");
        std::os::unix::fs::symlink("..data/c.yaml", folder.0.join("c.yaml")).expect("linked");
        handle.wait_for(done(2)).await.expect("runs");
        std::fs::create_dir(folder.0.join("..2")).expect("made");
        folder.write("..2/c.yaml", "");
        std::os::unix::fs::symlink("..2", folder.0.join("..tmp")).expect("linked");
        std::fs::rename(folder.0.join("..tmp"), folder.0.join("..data")).expect("renamed");
        handle.wait_for(done(1)).await.expect("runs");
        let rows = handle.inspect(|view| rows(view.assembly)).await.expect("runs");
        assert_eq!(rows, [B_ROW]);
    };
    let limit = Duration::from_secs(20);
    tasks.run_until(tokio::time::timeout(limit, test)).await.expect("in time");
}
