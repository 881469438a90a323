//! vipgate: a userspace gateway for Kubernetes Services.
//!
//! One binary, one function per command. Follow `run` to see a packet's way: [`vipgate::run`] starts ports and workers,
//! `dataplane::worker` is the poll loop, `dataplane::engine` decides one packet.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use control::admin;
use control::config::{Config, ConfigErrors, Log, LogFormat};
use control::explain;
use tracing::error;
use vipgate::args::{
    Cli, Command, ConfigCommand, ConfigFile, DemoArgs, ExplainArgs, Output, StatusArgs,
};
use vipgate::{cpu, demo, run};

/// The command did not do what it was asked.
const FAILED: u8 = 1;
/// The gateway can't be reached.
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    if let Err(error) = cpu::check() {
        eprintln!("vipgate: {error}");
        return ExitCode::from(FAILED);
    }
    if let Some(code) = demo::child() {
        return code;
    }
    match Cli::parse().command {
        Command::Run(ConfigFile { config }) => run(&config),
        Command::Status(arguments) => status(&arguments),
        Command::Explain(arguments) => explain(arguments),
        Command::Demo(DemoArgs { json, keep }) => demo::run(demo::Options { json, keep }),
        Command::Config(ConfigCommand::Check(ConfigFile { config })) => check(&config),
        Command::Version => {
            println!("vipgate {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    start_log(config.log);
    match run::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::from(FAILED)
        }
    }
}

fn check(path: &Path) -> ExitCode {
    match load(path) {
        Ok(_) => {
            println!("{}: ok", path.display());
            ExitCode::SUCCESS
        }
        Err(errors) => refuse(&errors),
    }
}

fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let config = Config::load(path)?;
    config.require_runnable()?;
    Ok(config)
}

fn refuse(errors: &ConfigErrors) -> ExitCode {
    eprintln!("{errors}");
    ExitCode::from(FAILED)
}

fn status(arguments: &StatusArgs) -> ExitCode {
    let status = match admin::status(&arguments.socket) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(UNREACHABLE);
        }
    };
    if !print(arguments.output, &status, admin::render) {
        return ExitCode::from(FAILED);
    }
    if status.not_ready.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn explain(arguments: ExplainArgs) -> ExitCode {
    let ExplainArgs { flows, manifests, config, socket, output } = arguments;
    let told = match manifests {
        None => match admin::explain(&socket, flows) {
            Ok(told) => told,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(UNREACHABLE);
            }
        },
        Some(manifests) => {
            // Any part of a configuration will do, and none is one without a node.
            let config = match config {
                Some(path) => Config::load(&path),
                None => Config::parse("{}", "the default configuration"),
            };
            let config = match config {
                Ok(config) => config,
                Err(errors) => return refuse(&errors),
            };
            match explain::explain_manifests(&config, &manifests, &flows) {
                Ok((told, problems)) => {
                    problems.iter().for_each(|problem| eprintln!("{problem}"));
                    told
                }
                Err(error) => {
                    eprintln!("--manifests: {error}");
                    return ExitCode::from(FAILED);
                }
            }
        }
    };
    let printed = print(output, &told, |told| explain::render(told));
    if printed { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// Prints a value in the form that was asked for; says so when it can't.
fn print<T: serde::Serialize>(output: Output, value: &T, table: impl Fn(&T) -> String) -> bool {
    let text = match output {
        Output::Table => Ok(table(value)),
        Output::Json => serde_json::to_string_pretty(value).map_err(|error| error.to_string()),
        Output::Yaml => serde_saphyr::to_string(value).map_err(|error| error.to_string()),
    };
    let printed = text.and_then(|text| match writeln!(io::stdout(), "{}", text.trim_end()) {
        // Whoever reads has seen enough, as in `| head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| error.to_string()),
    });
    if let Err(error) = &printed {
        eprintln!("cannot print it: {error}");
    }
    printed.is_ok()
}

fn start_log(log: Log) {
    let logger = tracing_subscriber::fmt()
        .with_max_level(log.level)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match log.format {
        LogFormat::Text => logger.init(),
        LogFormat::Json => logger.json().init(),
    }
}
