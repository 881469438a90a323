//! The two-process test: vipgate between the generator's clients and backends, over vhost-user. `wire/run.sh` does
//! it all, and says what it asserts; this makes it a part of `cargo test`, one case after another.

use std::path::Path;
use std::process::{Command, ExitStatus};

#[test]
fn vipgate_forwards_everything_between_the_generators_clients_and_backends() {
    // The generator is another package's program, which Cargo does not build for this test.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--package", "perf"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(status(&mut cargo).success(), "the generator builds");

    let vipgate = Path::new(env!("CARGO_BIN_EXE_vipgate"));
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut test = Command::new(top.join("tests/wire/run.sh"));
    test.arg("--vipgate").arg(vipgate).arg("--perf").arg(vipgate.with_file_name("perf"));
    assert!(status(&mut test).success(), "see the output above");
}

/// Runs in the workspace's folder, with this test's output.
fn status(command: &mut Command) -> ExitStatus {
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("it starts");
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}
