//! `deploy/Dockerfile`. No image is built here; what can go out of step with the repository is compared.

use std::collections::BTreeSet;
use std::process::Command;

use crate::{text, top};

#[test]
fn the_image_is_built_as_the_scripts_build() {
    let (build, _) = stages();
    let (setup, demo) = ("scripts/setup.sh run", text("scripts/demo.sh"));
    assert!(demo.contains(&format!("\n{setup}\n")) && build.contains(&format!("RUN {setup}\n")));
    let line = demo.lines().find(|line| line.starts_with("cargo build")).expect("it builds");
    let line = line.replace(" --quiet", "");
    assert!(build.contains(&format!("RUN {line}\n")), "`{line}`, as scripts/demo.sh");
}

/// The compiler is the oldest that is promised to do, and both stages have one release of Debian.
#[test]
fn the_images_beneath_are_of_one_kind() {
    let (build, run) = stages();
    let base = |stage: &str| stage.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert_eq!(base(&build), format!("docker.io/library/rust:{rust}-bookworm"));
    assert_eq!(base(&run), "docker.io/library/debian:bookworm-slim");
}

#[test]
fn the_image_has_the_libraries_the_program_is_linked_with() {
    let (_, run) = stages();
    let line = run.lines().find(|line| line.contains("apt-get install")).expect("packages");
    let packages: Vec<&str> =
        line.split_whitespace().filter(|word| word.starts_with("lib")).collect();
    let mut closure = Command::new("apt-cache");
    closure.args(["depends", "--recurse", "--installed", "--no-recommends", "--no-suggests"]);
    closure.args(["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]);
    let closure = output(closure.args(&packages));
    let closure: BTreeSet<&str> =
        closure.lines().filter(|line| !line.starts_with([' ', '<'])).collect();
    let linked = output(Command::new("ldd").arg(env!("CARGO_BIN_EXE_vipgate")));
    let libraries = linked.lines().filter_map(|line| line.split_once(" => "));
    let mut count = 0;
    for (library, _) in libraries {
        let owners =
            output(Command::new("dpkg-query").args(["-S", &format!("*/{}", library.trim())]));
        let mut owners = owners.lines().filter_map(|line| line.split(':').next());
        assert!(
            owners.any(|owner| closure.contains(owner)),
            "{library} is in none of {packages:?}"
        );
        count += 1;
    }
    assert!(count > 4, "{linked}");
    // Loaded by name when the process starts.
    for plugin in ["librte_mempool_ring.so", "librte_net_af_packet.so", "librte_net_virtio.so"] {
        let owners = output(Command::new("dpkg-query").args(["-S", &format!("*/{plugin}.*")]));
        let owner = owners.split(':').next().unwrap_or_default();
        assert!(closure.contains(owner), "{plugin}, of {owner}, is in none of {packages:?}");
    }
}

/// The two stages' texts.
fn stages() -> (String, String) {
    let file = text("deploy/Dockerfile");
    let starts: Vec<usize> = file.match_indices("\nFROM ").map(|(at, _)| at + 1).collect();
    let [build, run] = starts[..] else { panic!("two stages, not {}", starts.len()) };
    (file[build..run].to_owned(), file[run..].to_owned())
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(top()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
