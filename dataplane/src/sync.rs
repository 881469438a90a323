//! The few synchronisation types the engine uses, replaced by loom's when a model is checked.

#[cfg(loom)]
pub use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};
