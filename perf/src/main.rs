//! Traffic generator and benchmarks for vipgate.

#![forbid(unsafe_code)]

mod bench;
mod report;
mod traffic;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use report::Measurement;
use tracing_subscriber::EnvFilter;

/// Traffic generator and benchmarks for vipgate.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Traffic(Box<traffic::Options>),
    /// Cycles per packet of the engine alone, over real packet buffers
    Path(bench::path::Options),
    /// Throughput and latency of the real process over vhost-user, beside testpmd
    Wire(bench::wire::Options),
    /// The same traffic through nftables rules and through vipgate, on the same veth pairs
    Kernel(bench::kernel::Options),
    /// From an endpoint's change to the last worker's acknowledgement
    Update(bench::update::Options),
    /// Set-up, expiry, memory and behaviour at capacity of the connection table
    Connections(bench::connections::Options),
    /// One worker and two, and packets that change hands
    Scale(bench::scale::Options),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    let result = match &command {
        Command::Traffic(options) => traffic::run(options),
        Command::Path(options) => suite("path", |progress| bench::path::run(options, progress)),
        Command::Wire(options) => suite("wire", |progress| bench::wire::run(options, progress)),
        Command::Kernel(options) => {
            suite("kernel", |progress| bench::kernel::run(options, progress))
        }
        Command::Update(options) => {
            suite("update", |progress| bench::update::run(options, progress))
        }
        Command::Connections(options) => {
            suite("connections", |progress| bench::connections::run(options, progress))
        }
        Command::Scale(options) => suite("scale", |progress| bench::scale::run(options, progress)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("perf: {error}");
        ExitCode::from(2)
    })
}

/// Runs one suite and prints its measurements.
fn suite(
    name: &'static str,
    run: impl FnOnce(&bench::Progress) -> Result<Vec<Measurement>, bench::Error>,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let progress = bench::Progress::new(name, 0);
    let measurements = run(&progress)?;
    drop(progress);
    for m in &measurements {
        println!("{:11} {:44} {:24} {:>12.3} {}", m.suite, m.case, m.metric, m.median(), m.unit);
    }
    Ok(ExitCode::SUCCESS)
}
