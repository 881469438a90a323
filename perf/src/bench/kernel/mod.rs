//! The `kernel` suite: the same traffic on the same veth devices, through the rules of kube-proxy's nftables mode and
//! through vipgate; packets a second of the gateway's core.
//!
//! - The cables and both ends: [`site`], [`namespace`], with the addresses of [`plan`]. The gateways: [`linux`] with
//!   [`rules`], [`dpdk`].
//! - The traffic: [`open`] opens connections and proves that they are translated, [`sender`] then sends as much as the
//!   gateway forwards. [`meter`] sees how busy the gateway's core is.
//! - [`run`] takes the gateways in turn, and [`tell`] makes measurements of it.
//!
//! Everything that a gateway does is on one core and counts: receiving (a kernel thread bound to it), forwarding, and
//! the last veth, up to where the node drops what it has counted. The sender has another core. Whatever a gateway forwards
//! has crossed from core to core once, which a NIC's packets have not; it is the same for all.
//!
//! On a veth a gateway outside the kernel pays for a copy into its memory and one back, with a new kernel buffer for
//! every packet, while the kernel hands one buffer through. So beside both gateways stands what each adds to: forwarding
//! without rules, and DPDK's driver without a gateway (testpmd).

mod dpdk;
mod frames;
mod linux;
mod meter;
mod namespace;
mod open;
mod plan;
mod rules;
mod run;
mod sender;
mod site;
mod socket;
mod tell;

use super::{Error, Progress};
use crate::report::Measurement;

/// How the `kernel` suite runs.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Only gateways whose name contains this
    #[arg(long, value_name = "TEXT")]
    case: Option<String>,

    /// How often every gateway is measured, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,

    /// Seconds of each measurement
    #[arg(long, value_name = "S", default_value_t = 0.6)]
    seconds: f64,

    /// UDP flows, established in both directions
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(1..=32_000))]
    flows: u16,

    /// No ten thousand Services, which nftables takes long to load; two repetitions
    #[arg(long)]
    quick: bool,
}

/// Runs the suite.
pub(crate) fn run(options: &Options, progress: &Progress) -> Result<Vec<Measurement>, Error> {
    let clusters: &[u32] = if options.quick { &[1, 1_000] } else { &[1, 1_000, 10_000] };
    let clusters: Vec<_> = clusters.iter().map(|&services| plan::Cluster { services }).collect();
    let outcome = run::Bench::new(options, &clusters, progress)?.run(progress)?;
    Ok(tell::measurements(&outcome))
}

impl Options {
    fn repetitions(&self) -> u32 {
        if self.quick { self.repetitions.min(2) } else { self.repetitions }
    }
}
