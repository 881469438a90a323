//! vipgate's control plane: Kubernetes objects and kernel state to the workers' tables.
//!
//! # Life of an update
//!
//! 1. A source ([`source::kubernetes`] or [`source::manifests`]) hears of a change, parses it ([`object`]) and sends an
//!    [`source::Event`]. What can't be read is a [`object::Problem`]: reported, counted, skipped; the rest goes on.
//! 2. The control loop ([`control`]) takes all that waits, from objects, routes and node alike.
//! 3. [`assembly`] puts it into the [`state`], which says which Services changed; an unchanged one ends here, and one whose
//!    endpoints may be on their way from one slice to another waits for them for some milliseconds.
//! 4. Those are compiled to rows ([`compile`]); who owns an address that two Services claim is settled ([`claims`]); the
//!    writer changes the parts of the service table that these rows touch, and shares the rest with the last table.
//! 5. [`publish`] swaps the tables for all workers at once, frees retired ones after the last worker let go, and
//!    measures how long that took.
//!
//! # Invariants
//!
//! - Nothing is published before every kind of object was listed completely, and a list replaces the former one only
//!   when it is complete. When a source falls silent, the last tables stay, for ever; the status says since when.
//! - The tables are a function of the objects, not of the order in which they arrived.
//! - A change costs what it touches, never what the cluster has.

#![forbid(unsafe_code)]

pub mod admin;
pub mod assembly;
mod backoff;
pub mod claims;
pub mod cluster;
pub mod compile;
pub mod config;
pub mod control;
mod directory;
pub mod dns;
mod empty;
pub mod events;
pub mod explain;
pub mod kernel;
pub mod object;
mod pending;
mod problems;
pub mod publish;
pub mod settings;
pub mod source;
pub mod state;
