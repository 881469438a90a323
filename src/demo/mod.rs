//! `vipgate demo`: the gateway at work on any Linux machine, without root, huge pages, NIC or cluster.
//!
//! [`run`] reads as the programme: namespaces, scenery ([`stage`]), two acts ([`rounds`], [`change`]), the books
//! ([`ledger`]), the verdict. Client and backends are child processes in network namespaces of their own ([`child`]);
//! the gateway is `vipgate run` with a configuration file, nothing special.
//!
//! Invariants:
//! - Nothing outside of the demo's own namespaces is touched, and nothing stays: interfaces and files live in them, the
//!   children die with the demo (`PR_SET_PDEATHSIG`), so that no end of it, however rude, leaves anything behind.
//! - It ends: every wait has a limit, and [`LIMIT`] holds for the whole.

mod backends;
mod change;
mod child;
mod client;
mod failure;
mod gateway;
mod ledger;
mod links;
mod manifests;
mod memory;
mod namespaces;
mod offload;
mod payload;
mod peer;
mod ping;
mod plan;
mod report;
mod rounds;
mod screen;
mod stage;
mod talk;

use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use failure::Failure;
use ledger::Ledger;
use namespaces::Users;
use plan::{BACKENDS, CLIENT, Family, GATEWAY_INSIDE, GATEWAY_OUTSIDE, Kind};
use report::Report;
use screen::Screen;
use stage::Stage;

/// The whole demo takes no longer, whatever happens.
const LIMIT: Duration = Duration::from_secs(19);

/// How to play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// One JSON document at the end instead of the picture.
    pub json: bool,
    /// Leave everything running until Ctrl-C.
    pub keep: bool,
}

/// What to do if this process is a child of the demo. `main` must ask first of all.
#[must_use]
pub fn child() -> Option<ExitCode> {
    child::main()
}

/// Plays the demo. The process must have a single thread.
///
/// Returns success if everything was as it should be.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let screen = Screen::new(options.json);
    let begin = Instant::now();
    let mut report = Report::default();
    if let Err(failure) = play(options, screen, begin, &mut report) {
        report.problems.push(failure.to_string());
        eprintln!("\nvipgate demo: {}", report.problems.join("\n"));
        if options.json {
            conclude(options, screen, begin, &mut report);
        }
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn play(
    options: Options,
    screen: Screen,
    begin: Instant,
    report: &mut Report,
) -> Result<(), Failure> {
    let users = namespaces::enter()?;
    let in_time = watch(options);
    draw(screen);
    let mut stage = Stage::build(&change::AT_FIRST)?;
    screen.line(format!("\n   Up and serving after {:.1} s.", begin.elapsed().as_secs_f64()));
    rounds::play(&mut stage, report, screen)?;
    change::play(&mut stage, report, screen)?;
    account(&stage, report, screen)?;
    report.memory_mib = memory::peak_mib(&stage.processes());
    if options.keep {
        drop(in_time);
        report.commands = commands(&stage, users);
        conclude(options, screen, begin, report);
        return linger(report, screen, users);
    }
    stage.gateway.stop()?;
    conclude(options, screen, begin, report);
    Ok(())
}

/// Ends the process at the limit, unless the result is dropped before. The kernel does the rest.
fn watch(options: Options) -> Sender<()> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        if receiver.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let problem = format!("not finished after {LIMIT:?}: is this machine very busy?");
            eprintln!("vipgate demo: {problem}");
            if options.json {
                print_json(&Report { problems: vec![problem], ..Report::default() });
            }
            std::process::exit(1);
        }
    });
    sender
}

fn draw(screen: Screen) {
    screen.line(
        "vipgate demo: a gateway in network namespaces of its own; nothing outside of them changes.\n",
    );
    screen.line(format!(
        "   {:<18}      {:<36}      {}",
        "client", "vipgate (DPDK, net_af_packet)", "backends"
    ));
    for (row, family) in Family::here().into_iter().enumerate() {
        let [client, outside, inside] =
            [CLIENT, GATEWAY_OUTSIDE, GATEWAY_INSIDE].map(|pair| pair.of(family).to_string());
        let gateway = format!("{outside} | {inside}");
        let cable = if row == 0 { "<-->" } else { "    " };
        let backends = BACKENDS.map(|backend| backend.at.of(family).to_string());
        let (first, last) = (&backends[0], &backends[BACKENDS.len() - 1]);
        screen.line(format!("   {client:<18} {cable} {gateway:<36} {cable} {first} to {last}"));
    }
}

/// Third act: what the gateway itself says about all this.
fn account(stage: &Stage, report: &mut Report, screen: Screen) -> Result<(), Failure> {
    screen.heading("3  `vipgate status` after all this");
    let ledger = Ledger::read().map_err(|error| Failure::setup("read /metrics", error))?;
    let status = stage.gateway.status()?;
    for line in control::admin::render(&status).lines() {
        screen.line(format!("   {line}").trim_end());
    }
    let Ledger { received, from_kernel, sent, to_kernel, dropped, waiting } = ledger;
    screen.line(format!(
        "\n   Books: {received} received + {from_kernel} from the kernel = {sent} sent + {to_kernel} to the kernel + \
         {dropped} dropped + {waiting} waiting"
    ));
    if !ledger.balances() {
        report.problems.push(format!("packets are missing in the books: {ledger:?}"));
    }
    report.packets = Some(ledger);
    report.status = Some(status);
    Ok(())
}

fn conclude(options: Options, screen: Screen, begin: Instant, report: &mut Report) {
    report.ok = report.problems.is_empty();
    report.seconds = (begin.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    if options.json {
        return print_json(report);
    }
    let cost = format!("{:.1} s, {} MiB of memory", report.seconds, report.memory_mib);
    if report.ok {
        screen.line(format!("\n{} ({cost})", screen.good("Everything as it should be.")));
        return;
    }
    screen.line(format!("\n{} ({cost})", screen.bad("Not as it should be:")));
    for problem in &report.problems {
        screen.line(format!("  {problem}"));
    }
}

fn print_json(report: &Report) {
    match serde_json::to_string_pretty(report) {
        Ok(text) => Screen::new(false).line(text),
        Err(error) => eprintln!("vipgate demo: {error}"),
    }
}

/// What to do with a demo that is kept.
fn commands(stage: &Stage, users: Users) -> Vec<String> {
    let client = namespaces::entrance(users, stage.client.id());
    // The demo's own /run, seen from outside.
    let files = format!("/proc/{}/root{}", stage.gateway.id(), namespaces::FILES);
    let program = std::env::current_exe().unwrap_or_else(|_| "vipgate".into());
    let [lb, cluster] = [Kind::LoadBalancer, Kind::ClusterIp];
    let mut commands: Vec<String> = Family::here()
        .into_iter()
        .map(|family| format!("{client} curl -g 'http://{}/'", lb.http(family)))
        .collect();
    commands.push(format!("{client} curl http://{}/", cluster.http(Family::V4)));
    commands.push(format!("{client} curl -o /dev/null http://{}/download", lb.http(Family::V4)));
    commands.push(format!("{} status --socket {files}/vipgate.sock", program.display()));
    commands.push(format!("vi {files}/manifests/endpoints.yaml"));
    commands
}

/// Waits for Ctrl-C; the end of the process ends the rest.
fn linger(report: &Report, screen: Screen, users: Users) -> Result<(), Failure> {
    let whose = if users == Users::Shared { " of root" } else { "" };
    screen.heading(&format!("It is yours now; Ctrl-C ends it. From another terminal{whose}:"));
    for command in &report.commands {
        screen.line(format!("   {command}"));
    }
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    let waited = signals.thread_block().and_then(|()| signals.wait());
    waited.map(drop).map_err(|error| Failure::setup("wait for Ctrl-C", error))
}
