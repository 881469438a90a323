//! The systemd unit; `unit.sh` does it all, and says what it asserts.

use std::process::Command;

use nix::unistd::getuid;

use crate::{skipped, top};

/// The script's exit status when there is no way to run systemd here.
const SKIPPED: i32 = 77;

#[test]
fn systemd_runs_the_unit() {
    if skipped((!getuid().is_root()).then(|| "only root can run a systemd".to_owned())) {
        return;
    }
    let mut script = Command::new(top().join("tests/deploy/unit.sh"));
    script.args(["--vipgate", env!("CARGO_BIN_EXE_vipgate")]);
    let output = script.output().expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{errors}");
    if output.status.code() == Some(SKIPPED) {
        skipped(Some(errors));
        return;
    }
    assert!(output.status.success(), "see the output above");
}
