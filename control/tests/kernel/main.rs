//! The kernel side against a real kernel, in a network namespace of its own.
//!
//! Only a process with a single thread may enter a new user namespace, so this binary does without the test harness:
//! it becomes root of a user namespace first, then runs its cases one after another, each in a new network namespace.
//! An argument selects cases by part of the name. Where the machine allows no namespaces, everything is reported as ignored.

mod frames;
mod mirror;
mod next_hops;
mod node;
mod twin;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getgid, getuid};

/// A name and what to run.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let selected = |name: &str| filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let all = [twin::CASES, mirror::CASES, next_hops::CASES].concat();
    let cases: Vec<Case> = all.into_iter().filter(|(name, _)| selected(name)).collect();
    if std::env::args().any(|argument| argument == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", cases.len());
    become_root();
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        // Root can always make one: then it is a fault, not a reason to skip.
        let fault = getuid().is_root() || std::env::var_os("CI").is_some();
        let verdict = if fault { "FAILED" } else { "ok" };
        println!("no network namespace ({error})");
        println!("\ntest result: {verdict}. 0 passed; 0 failed; {} ignored\n", cases.len());
        return ExitCode::from(u8::from(fault));
    }
    let mut failed = 0;
    for (name, case) in &cases {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace, as before");
        let ok = catch_unwind(AssertUnwindSafe(case)).is_ok();
        failed += usize::from(!ok);
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {} passed; {failed} failed\n", cases.len() - failed);
    ExitCode::from(u8::from(failed != 0))
}

/// As `unshare -Ur`. Where that is forbidden, real root goes on as it is.
fn become_root() {
    let (uid, gid) = (getuid(), getgid());
    if unshare(CloneFlags::CLONE_NEWUSER).is_ok() {
        for (file, line) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            std::fs::write(format!("/proc/self/{file}"), line).expect("a writable map");
        }
    }
}
