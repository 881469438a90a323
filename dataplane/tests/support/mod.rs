//! What the integration tests share: a packet builder, a judge of what leaves, and a gateway to send through.

#![allow(dead_code, reason = "every test crate uses its own part")]
#![allow(unreachable_pub, missing_debug_implementations, reason = "a test crate has no users")]

pub mod frames;
pub mod gateway;
pub mod judge;
pub mod net;
pub mod packet;
pub mod pooled;
pub mod random;
