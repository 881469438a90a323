//! Traffic generator and benchmarks for vipgate.

#![forbid(unsafe_code)]

mod wire;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Traffic generator and benchmarks for vipgate.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Wire(Box<wire::Options>),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    let result = match &command {
        Command::Wire(options) => wire::run(options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("perf: {error}");
        ExitCode::from(2)
    })
}
