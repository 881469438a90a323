//! Namespaces of our own: users (unless we are root), network, mounts.
//!
//! They are also the cleaner: interfaces, routes and files (in a `tmpfs` that only we see) go with the last process,
//! however it ends.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getgid, getuid};

use super::failure::Failure;
use super::links;

/// Where the demo's files are; hides the machine's own `/run` from the demo's processes only.
pub(super) const FILES: &str = "/run/vipgate";

/// How another process gets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Users {
    /// Users are those of the machine.
    Shared,
    /// We are root in a user namespace of our own.
    Own,
}

/// Enters them. The process must have a single thread.
pub(super) fn enter() -> Result<Users, Failure> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let (uid, gid) = (getuid(), getgid());
    // Root inside a container may lack the right, and have it in a user namespace.
    let mut users = Users::Shared;
    if !(Uid::is_root(uid) && unshare(own).is_ok()) {
        users = Users::Own;
        unshare(own | CloneFlags::CLONE_NEWUSER).map_err(refused("unshare"))?;
        for (file, text) in [
            ("setgroups", "deny".to_owned()),
            ("uid_map", format!("0 {uid} 1")),
            ("gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(format!("/proc/self/{file}"), text).map_err(refused("map users"))?;
        }
    }
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).map_err(refused("mount"))?;
    mount(Some("demo"), "/run", Some("tmpfs"), MsFlags::empty(), Some("size=16m,mode=755"))
        .map_err(refused("mount"))?;
    fs::create_dir_all(FILES).map_err(refused("mount"))?;
    links::ip(&["link set lo up"]).map_err(|error| match error {
        Failure::Setup { error, .. } if error.contains("not permitted") => {
            refused("set up the loopback interface")(error)
        }
        other => other,
    })?;
    Ok(users)
}

/// What runs a command in the network namespace of one of the demo's processes.
pub(super) fn entrance(users: Users, process: u32) -> String {
    match users {
        Users::Shared => format!("nsenter -t {process} -n"),
        Users::Own => format!("nsenter -t {process} -U -n --preserve-credentials"),
    }
}

fn refused<E: ToString>(what: &'static str) -> impl Fn(E) -> Failure {
    move |error| Failure::Namespaces { what, error: error.to_string(), advice: advice() }
}

/// What may be in the way, and how to go on: the switches that are found in the wrong position, or all that is known.
fn advice() -> String {
    let switches = [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "15000"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    let closed = switches.iter().filter(|(file, bad, _)| {
        let now = fs::read_to_string(Path::new("/proc/sys").join(file));
        now.is_ok_and(|now| now.trim() == *bad)
    });
    let mut lines: Vec<String> = closed
        .map(|(file, bad, good)| {
            let name = file.replace('/', ".");
            format!("  sudo sysctl -w {name}={good}    (it is {bad}: ordinary users may not)")
        })
        .collect();
    if lines.is_empty() {
        lines.push(
            "  No switch of the kernel is closed that I know of (kernel.unprivileged_userns_clone,\n  \
             user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns). In a container,\n  \
             its seccomp or AppArmor profile is the likely reason: start it with `--privileged`, or\n  \
             with `--cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun`."
                .to_owned(),
        );
    }
    format!("How to go on:\n{}\n  Or run it as root: `sudo vipgate demo`.", lines.join("\n"))
}
