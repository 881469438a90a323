//! The generated bindings: the names `build.rs` lists and nothing else. Private to `dpdk`.

#![allow(
    clippy::all,
    clippy::cast_possible_truncation,
    clippy::multiple_unsafe_ops_per_block,
    clippy::or_fun_call,
    clippy::undocumented_unsafe_blocks,
    clippy::use_self,
    dead_code,
    missing_debug_implementations,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    reason = "generated"
)]

/// A packet buffer; [`super::mbuf`] knows the fields that matter.
#[repr(C)]
pub struct rte_mbuf {
    _private: [u8; 0],
}

/// A pool of packet buffers.
#[repr(C)]
pub struct rte_mempool {
    _private: [u8; 0],
}

include!(concat!(env!("OUT_DIR"), "/dpdk.rs"));
