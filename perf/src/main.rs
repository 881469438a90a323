//! Traffic generator and benchmarks for vipgate.

#![forbid(unsafe_code)]

mod all;
mod bench;
mod report;
mod traffic;

use std::error::Error;
use std::fmt::Debug;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use bench::{Progress, Suite};
use clap::Parser;
use report::{CpuTimes, Measurement, Run, SuiteRun};
use tracing_subscriber::EnvFilter;

/// Traffic generator and benchmarks for vipgate.
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    All(all::Options),
    Compare(report::compare::Options),
    /// Prints the table of a result again
    Show(Show),
    /// Cycles per packet of the engine alone, over real packet buffers
    Path(Single<bench::path::Options>),
    /// Set-up, expiry, memory and behaviour at capacity of the connection table
    Connections(Single<bench::connections::Options>),
    /// One worker and two, and packets that change hands
    Scale(Single<bench::scale::Options>),
    /// From an endpoint's change to the last worker's acknowledgement
    Update(Single<bench::update::Options>),
    /// The same traffic through nftables rules and through vipgate, on the same veth pairs
    Kernel(Single<bench::kernel::Options>),
    /// Throughput and latency of the real process over vhost-user, beside testpmd
    Wire(Single<bench::wire::Options>),
    Traffic(Box<traffic::Options>),
}

/// One suite, and where its result goes.
#[derive(Debug, clap::Args)]
struct Single<O: clap::Args> {
    #[command(flatten)]
    suite: O,

    /// Also write the result to this file, as `perf all` and `perf compare` know it
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A result, and where its plots go.
#[derive(Debug, clap::Args)]
struct Show {
    /// The result
    result: PathBuf,

    /// Also draw its plots into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Err(error) = vipgate::cpu::check() {
        eprintln!("perf: {error}");
        return ExitCode::from(2);
    }
    let command = Command::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    log.with_writer(std::io::stderr).init();
    let result = match &command {
        Command::All(options) => all::run(options),
        Command::Compare(options) => report::compare::run(options),
        Command::Show(options) => show(options),
        Command::Path(single) => measure(Suite::Path, single, bench::path::run),
        Command::Connections(single) => {
            measure(Suite::Connections, single, bench::connections::run)
        }
        Command::Scale(single) => measure(Suite::Scale, single, bench::scale::run),
        Command::Update(single) => measure(Suite::Update, single, bench::update::run),
        Command::Kernel(single) => measure(Suite::Kernel, single, bench::kernel::run),
        Command::Wire(single) => measure(Suite::Wire, single, bench::wire::run),
        Command::Traffic(options) => traffic::run(options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("perf: {error}");
        ExitCode::from(2)
    })
}

/// Runs one suite, prints its table and keeps its result. One that can't run leaves a result that says why.
fn measure<O: clap::Args + Debug>(
    suite: Suite,
    single: &Single<O>,
    measure: impl FnOnce(&O, &Progress) -> Result<Vec<Measurement>, bench::Error>,
) -> Result<ExitCode, Box<dyn Error>> {
    let mut run = Run::begin();
    let (start, times) = (Instant::now(), CpuTimes::now());
    let progress = Progress::new(suite.name(), 0);
    let outcome = measure(&single.suite, &progress).and_then(|measurements| {
        let fault = report::fault(suite.name(), &measurements);
        fault.map_or(Ok(measurements), |fault| Err(bench::Error(fault)))
    });
    drop(progress);
    run.took(start);
    let error = outcome.as_ref().err().map(ToString::to_string);
    run.suites.push(SuiteRun {
        suite: suite.name().into(),
        seconds: run.seconds,
        stolen_percent: times.since().stolen,
        settings: format!("{:?}", single.suite),
        error,
    });
    run.measurements = outcome.unwrap_or_default();
    if let Some(file) = &single.json {
        run.write(file)?;
    }
    print!("{}", report::render(&run));
    let failed = run.failures().next().is_some();
    Ok(ExitCode::from(u8::from(failed)))
}

fn show(options: &Show) -> Result<ExitCode, Box<dyn Error>> {
    let run = Run::read(&options.result)?;
    print!("{}", report::render(&run));
    if let Some(folder) = &options.plots {
        report::draw(&run, folder)?;
    }
    Ok(ExitCode::SUCCESS)
}
