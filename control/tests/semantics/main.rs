//! What becomes of first packets, rule by rule: manifests and flows in, verdicts out, through `explain` without a gateway.
//!
//! One file for each family of rules; the name of a test begins with the rules it proves. `docs/rules.md` is made from
//! these names. A test describes a [`world::World`] and asks it about flows.

#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

mod affinity;
mod cluster;
mod dual_stack;
mod edge;
mod endpoints;
mod every_cell;
mod excluded;
mod external_ips;
mod load_balancer;
mod masquerade;
mod mirroring;
mod node_ports;
mod objects;
mod protocols;
mod ranges;
mod reject;
mod selection;
mod terminating;
mod topology;
mod verdicts;
mod world;
