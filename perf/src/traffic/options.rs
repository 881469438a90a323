//! The command line of `perf traffic`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use dataplane::fib::Mac;

use super::frame::FCS;
use super::plan::{Clients, Defaults, Plan, Vip};

/// Plays clients and backends on the far side of a gateway's virtio-user ports.
///
/// Owns one or two vhost-user sockets as the server: start it first, then the gateway. Waits until the gateway answers
/// on every VIP by way of every backend, runs at a fixed rate, ends all flows, and tells what was lost, late or wrong.
/// The exit status is 0 when nothing was wrong, 1 when something was, 2 when it could not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A vhost-user socket to serve; given twice, the first is the clients' side and the second the backends'
    #[arg(long = "socket", value_name = "PATH", required = true, num_args = 1)]
    pub(super) sockets: Vec<PathBuf>,

    /// Queue pairs of each port, as many as the gateway has workers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8))]
    pub(super) queues: u16,

    /// A Service address: tcp|udp:ADDRESS:PORT, and ,masquerade=ADDRESS if backends see that instead of the client
    #[arg(long = "vip", value_name = "VIP", required = true, num_args = 1)]
    vips: Vec<Vip>,

    /// A backend of every VIP [default: 10.0.1.10:8080 and 10.0.1.11:8080, or 2001:db8:2::10 and ::11]
    #[arg(long = "backend", value_name = "ADDRESS:PORT", num_args = 1)]
    backends: Vec<SocketAddr>,

    /// Take the default network of IPv6 instead of IPv4
    #[arg(long)]
    v6: bool,

    /// The gateway's address on the clients' side [default: 192.0.2.1 or 2001:db8:1::1]
    #[arg(long, value_name = "ADDRESS")]
    client_gateway: Option<IpAddr>,

    /// Our router's address there, the gateway's next hop to the clients [default: 192.0.2.2 or 2001:db8:1::2]
    #[arg(long, value_name = "ADDRESS")]
    client_router: Option<IpAddr>,

    /// The first client's address [default: 198.18.0.1 or 2001:db8:c::1]
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,

    /// Number of client addresses
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    clients: u32,

    /// The gateway's address on the backends' side [default: 10.0.1.1 or 2001:db8:2::1]
    #[arg(long, value_name = "ADDRESS")]
    backend_gateway: Option<IpAddr>,

    /// The gateway's MAC address, when it does not answer for its addresses
    #[arg(long, value_name = "MAC", value_parser = mac)]
    pub(super) gateway_mac: Option<Mac>,

    /// Packets of clients a second; as many replies come back
    #[arg(long, default_value_t = 10_000.0, value_name = "PPS", value_parser = positive)]
    rate: f64,

    /// Seconds at the rate
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS", value_parser = positive)]
    pub(super) duration: f64,

    /// Flows at a time, which take turns at the VIPs
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,

    /// Flows that end and give place to new ones a second
    #[arg(long, default_value_t = 0.0, value_name = "FLOWS", value_parser = not_negative)]
    new_connection_rate: f64,

    /// Pause while so many packets are on their way or lost: where processes share cores, one that waits for its turn
    /// must not make the queues of the others overflow
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    window: Option<u64>,

    /// Length of frames in bytes, with FCS
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(64..=1518))]
    size: u16,

    /// Seconds until the gateway must have connected and answer on everything
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS", value_parser = positive)]
    pub(super) warm_up: f64,

    /// Seconds after which a packet that has not arrived is lost
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = positive)]
    pub(super) patience: f64,

    /// Fail when a packet is lost
    #[arg(long)]
    pub(super) require_zero_loss: bool,

    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,

    /// The CPU to run on
    #[arg(long)]
    pub(super) core: Option<usize>,

    /// Never rest: exact latencies, for a core of its own
    #[arg(long)]
    pub(super) busy: bool,

    /// Do without huge pages
    #[arg(long)]
    pub(super) no_huge: bool,
}

impl Options {
    /// What to play; refuses what does not fit together.
    pub(super) fn plan(&self) -> Result<Plan, String> {
        if self.sockets.len() > 2 {
            return Err("--socket: two sides are all there are".into());
        }
        let defaults = if self.v6 { Defaults::V6 } else { Defaults::V4 };
        let backends: &[SocketAddr] =
            if self.backends.is_empty() { &defaults.backends } else { &self.backends };
        let plan = Plan {
            vips: self.vips.clone(),
            backends: backends.iter().map(|at| (at.ip().into(), at.port())).collect(),
            clients: Clients {
                first: self.client.unwrap_or(defaults.first_client).into(),
                count: self.clients,
            },
            router: self.client_router.unwrap_or(defaults.router).into(),
            gateways: [
                self.client_gateway.unwrap_or(defaults.gateways[0]).into(),
                self.backend_gateway.unwrap_or(defaults.gateways[1]).into(),
            ],
            frame_len: usize::from(self.size) - FCS,
            flows: self.flows,
            rate: self.rate,
            renewals: self.new_connection_rate,
            window: self.window,
        };
        plan.check().map(|()| plan)
    }
}

fn mac(text: &str) -> Result<Mac, String> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected six bytes, such as 02:00:00:00:00:01".into())
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).filter(|&number| number > 0.0).ok_or_else(|| "expected a positive number".into())
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text).ok_or_else(|| "expected a number, 0 or more".into())
}

/// Up to a billion: what is more is a mistake.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number| (0.0..=1e9).contains(number))
}
