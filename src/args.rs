//! The command line. Parsing only: what a command does is in its own module.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control::explain::Flow;

/// A DPDK userspace gateway for Kubernetes Services.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "vipgate", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  vipgate demo                                              see it work: no NIC, no cluster, no configuration
  vipgate config check --config /etc/vipgate/vipgate.yaml   find mistakes before a start
  vipgate run --config /etc/vipgate/vipgate.yaml            run the gateway
  vipgate status                                            ask it how it is
  vipgate explain --flow 'tcp 203.0.113.7:40000 -> 172.30.0.41:80'   ask it why";

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the gateway until SIGTERM or SIGINT
    #[command(after_help = "\
Examples:
  vipgate run --config /etc/vipgate/vipgate.yaml

The file is checked first; with a mistake in it nothing is started. SIGTERM and SIGINT end the gateway.")]
    Run(ConfigFile),

    /// Show how a running gateway is
    #[command(after_help = "\
Examples:
  vipgate status
  vipgate status -o json | jq '.drops'
  vipgate status --socket /run/vipgate/edge.sock -o yaml

Exit status: 0 when it is ready, 1 when it is not, 3 when it can't be reached.")]
    Status(StatusArgs),

    /// Say what happens to the first packet of a flow, and why
    #[command(after_help = "\
Examples:
  vipgate explain --flow 'tcp 203.0.113.7:40000 -> 172.30.0.41:80'            ask the running gateway
  vipgate explain --config vipgate.yaml --manifests deploy/ -o json \\
      --flow 'udp [2001:db8::7]:5353 -> [fd00:30::a]:53'                      ask files, without a gateway
  kubectl get svc,endpointslices -A -o yaml | vipgate explain --config vipgate.yaml --manifests - --flow '...'

Of the configuration only `services` is looked at. Exit status: 0 when every flow was evaluated, 1 when something could
not be read, 3 when the gateway can't be reached.")]
    Explain(ExplainArgs),

    /// Show connections surviving a backend's end, on this machine alone
    #[command(after_help = "\
Examples:
  vipgate demo                 needs neither root, NIC, huge pages nor a cluster; ends by itself
  vipgate demo --keep          leave it running to play with, until Ctrl-C
  vipgate demo --json          figures for a script")]
    Demo(DemoArgs),

    /// Work with configuration files
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),

    /// Print the version
    Version,
}

/// Which configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ConfigFile {
    /// The configuration file (YAML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `vipgate status`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// The admin socket of the gateway
    #[arg(long, value_name = "PATH", default_value = "/run/vipgate/vipgate.sock")]
    pub socket: PathBuf,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `vipgate explain`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ExplainArgs {
    /// A flow by its first packet: protocol, client, destination, as 'tcp 203.0.113.7:40000 -> 172.30.0.41:80'. May be
    /// given many times
    #[arg(long = "flow", value_name = "FLOW", required = true)]
    pub flows: Vec<Flow>,
    /// Explain by these objects instead of asking a gateway: a file, a folder, or - for standard input
    #[arg(long, value_name = "FILE_OR_DIR")]
    pub manifests: Option<PathBuf>,
    /// The configuration (YAML) that goes with `--manifests`
    #[arg(long, value_name = "FILE", requires = "manifests")]
    pub config: Option<PathBuf>,
    /// The admin socket of the gateway
    #[arg(long, value_name = "PATH", default_value = "/run/vipgate/vipgate.sock")]
    #[arg(conflicts_with = "manifests")]
    pub socket: PathBuf,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `vipgate demo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct DemoArgs {
    /// Print one JSON object at the end and nothing before
    #[arg(long)]
    pub json: bool,
    /// Keep running until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// The commands of `vipgate config`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a file, and where
    #[command(after_help = "\
Examples:
  vipgate config check --config /etc/vipgate/vipgate.yaml

Exit status: 0 when `vipgate run` would take it, 1 when not.")]
    Check(ConfigFile),
}

/// How to print something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Command, ErrorKind> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.kind())?;
        Ok(cli.command)
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_take_their_arguments() {
        let file = || ConfigFile { config: "a.yaml".into() };
        let status = |socket: &str, output| {
            Ok(Command::Status(StatusArgs { socket: socket.into(), output }))
        };
        let default = "/run/vipgate/vipgate.sock";
        let explain = |manifests: Option<&str>, config: Option<&str>, output| {
            let flow = "tcp 203.0.113.7:40000 -> 172.30.0.41:80".parse().expect("a flow");
            let (manifests, config) = (manifests.map(Into::into), config.map(Into::into));
            let socket = default.into();
            let flows = vec![flow];
            Ok(Command::Explain(ExplainArgs { flows, manifests, config, socket, output }))
        };
        for (line, expected) in [
            ("vipgate run --config a.yaml", Ok(Command::Run(file()))),
            ("vipgate run", Err(ErrorKind::MissingRequiredArgument)),
            ("vipgate status", status(default, Output::Table)),
            ("vipgate status -o json", status(default, Output::Json)),
            ("vipgate status --socket s --output yaml", status("s", Output::Yaml)),
            ("vipgate status -o xml", Err(ErrorKind::InvalidValue)),
            ("vipgate demo", Ok(Command::Demo(DemoArgs { json: false, keep: false }))),
            ("vipgate demo --json --keep", Ok(Command::Demo(DemoArgs { json: true, keep: true }))),
            (
                "vipgate config check --config a.yaml",
                Ok(Command::Config(ConfigCommand::Check(file()))),
            ),
            ("vipgate config", Err(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)),
            ("vipgate version", Ok(Command::Version)),
            ("vipgate --version", Err(ErrorKind::DisplayVersion)),
            ("vipgate", Err(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)),
            ("vipgate stop", Err(ErrorKind::InvalidSubcommand)),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
        // Flows hold blanks.
        let flow = "--flow=tcp 203.0.113.7:40000 -> 172.30.0.41:80";
        for (words, expected) in [
            (vec![flow], explain(None, None, Output::Table)),
            (
                vec!["--config", "a.yaml", "--manifests", "-", "-o", "json", flow],
                explain(Some("-"), Some("a.yaml"), Output::Json),
            ),
            (vec!["--config", "a.yaml", flow], Err(ErrorKind::MissingRequiredArgument)),
            (vec!["--manifests", "m", "--socket", "s", flow], Err(ErrorKind::ArgumentConflict)),
            (vec!["--flow", "tcp"], Err(ErrorKind::ValueValidation)),
            (vec![], Err(ErrorKind::MissingRequiredArgument)),
        ] {
            let line = ["vipgate", "explain"].into_iter().chain(words.iter().copied());
            let parsed = Cli::try_parse_from(line).map(|cli| cli.command).map_err(|e| e.kind());
            assert_eq!(parsed, expected, "{words:?}");
        }
    }

    #[test]
    fn help_has_examples() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_help().to_string();
            let bare = ["config", "version", "help"].contains(&command.get_name());
            assert!(bare || help.contains("Examples:\n  vipgate "), "{help}");
        }
    }
}
