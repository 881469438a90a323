//! What the suites that run the engine alone share: a worker of production between two queues of a benchmark.
//!
//! [`machine`] has memory and packet buffers, [`network`] the gateway's surroundings, [`flows`] who talks to whom and in
//! which order, [`frames`] the bytes. [`gateway`] is the worker with its tables, [`floor`] the least that could be done
//! instead, and a [`bed`] holds either one and times it. [`fill`] opens connections, a [`tally`] says
//! what became of packets.
//!
//! How it is timed: a ring of frames gets fresh headers; the worker is polled until it has taken them all, which is what
//! the clock runs for; what it sent is collected and used again. A NAT rewrites in place, so a frame that is fed twice
//! takes another path the second time; and a benchmark that does not look takes a fast drop for a fast forward. Hence
//! fresh headers for every ring, a look at every byte that matters of the first one, and counters held against what
//! was offered for all the others.

pub(crate) mod bed;
pub(crate) mod fill;
pub(crate) mod floor;
pub(crate) mod flows;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod nic;
pub(crate) mod tally;
pub(crate) mod times;
