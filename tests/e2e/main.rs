//! End-to-end tests: the real `vipgate run` between the sockets of real kernels.
//!
//! Every test makes a [`site::Site`] of its own: a client, a gateway and backends in network namespaces, connected by
//! the gateway's DPDK ports. Clients are curl, dig, nc, ping, traceroute, iperf3 and plain sockets, so it is the kernels at
//! both ends that verify every checksum, rebuild fragments and find path MTUs.
//!
//! - `netns`, `gateway`, `site`: namespaces, the vipgate process, and the two put together
//! - `service`, `backend`, `client`: what is served, by whom, and who asks; `wire`: frames made by hand
//! - the other modules are the tests; their functions are named after what they show
//!
//! Needs root, and `ip`, `timeout`, `ethtool`, `nstat`, `curl`, `dig`, `nc` (OpenBSD's), `socat`, `ping`, `traceroute`
//! and `iperf3` (Debian: iproute2 coreutils ethtool curl bind9-dnsutils netcat-openbsd socat iputils-ping traceroute iperf3). Where
//! namespaces can't be made the tests are skipped with the reason on standard error; under CI (variable `CI` set) that
//! is a failure.
//!
//! Sites are made one at a time, whatever the number of test threads: a gateway keeps two cores busy.

mod backend;
mod client;
mod gateway;
mod netns;
mod service;
mod site;
mod wire;

mod dns;
mod endpoint_changes;
mod garbage;
mod lifecycle;
mod one_way;
mod path_mtu;
mod refusals;
mod throughput;
mod vip_kinds;
