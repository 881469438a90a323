//! The two cables: a pair of virtual Ethernet interfaces to the client and one to the backends.
//!
//! The gateway's ends belong to DPDK. The kernel must stay silent on them, because it knows the gateway's addresses
//! from the kernel twins and would answer in vipgate's place: hence no IPv6, no ARP, and no packet whose source is not
//! routed that way (which is none).

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::failure::Failure;
use super::offload;
use super::plan::{FAR_END, Family, Pair};

/// Lays a cable from the interface `near`, here, to `eth0` in the network namespace of process `far`.
pub(super) fn lay(near: &str, far: u32) -> Result<(), Failure> {
    ip(&[&format!("link add {near} type veth peer name {FAR_END} netns {far}")])?;
    // `all` overrules the interface when it is larger, and some distributions set it to 2.
    set("ipv4/conf/all/rp_filter", "0")?;
    set(&format!("ipv4/conf/{near}/rp_filter"), "1")?;
    set(&format!("ipv4/conf/{near}/arp_ignore"), "8")?;
    if Path::new("/proc/sys/net/ipv6").exists() {
        set(&format!("ipv6/conf/{near}/disable_ipv6"), "1")?;
    }
    ip(&[&format!("link set {near} up")])
}

/// Configures the far end, from its own namespace: addresses, and the gateway as the way to everywhere.
pub(super) fn connect(addresses: &[Pair], gateway: Pair) -> Result<(), Failure> {
    // The kernel leaves checksums to its network card, but a raw socket would read them unfinished.
    offload::checksums_in_software(FAR_END)
        .map_err(|error| Failure::setup("switch off checksum offload", error))?;
    let mut commands = vec!["link set lo up".to_owned(), format!("link set {FAR_END} up")];
    for family in Family::here() {
        // Nobody else is there: no need to wait for duplicate address detection.
        let nodad = if family == Family::V6 { "nodad" } else { "" };
        for address in addresses {
            let address = address.in_network(family);
            commands.push(format!("address add {address} dev {FAR_END} {nodad}"));
        }
        commands.push(format!("route add default via {}", gateway.of(family)));
    }
    ip(&commands)
}

/// Runs commands of `ip`.
pub(super) fn ip(commands: &[impl AsRef<str>]) -> Result<(), Failure> {
    let commands: Vec<&str> = commands.iter().map(AsRef::as_ref).collect();
    let what = || format!("run `ip {}`", commands.join("; "));
    let failed = |error: String, advice: &str| Failure::Setup {
        what: what(),
        error,
        advice: advice.to_owned(),
    };
    // Ordinary users of Debian have no sbin in their path.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string(), "; it is in the package iproute2"))?;
    if let Some(mut input) = ip.stdin.take() {
        let text = commands.join("\n") + "\n";
        // A program that has ended already says why below.
        let _ = input.write_all(text.as_bytes());
    }
    let output = ip.wait_with_output().map_err(|error| failed(error.to_string(), ""))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned(), ""))
}

fn set(key: &str, value: &str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value)
        .map_err(|error| Failure::setup(format!("write {value} to {path}"), error))
}
