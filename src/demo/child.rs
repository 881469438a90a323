//! The inside of the demo's child processes, which are this same program under another name.

use std::env;
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::backends::Backends;
use super::client::Client;

/// First argument of a child; no command of the program has this name.
const MARK: &str = "demo-child";

/// What a child is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Client,
    Backends,
    /// `vipgate` with the arguments that follow; only tied to the demo's life.
    Gateway,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backends => "backends",
            Self::Gateway => "gateway",
        }
    }

    /// How to start one. Its third argument is the process it must not outlive.
    pub(super) fn command(self) -> io::Result<Command> {
        let mut command = Command::new(env::current_exe()?);
        command.args([MARK, self.name(), &std::process::id().to_string()]);
        Ok(command)
    }
}

/// The life of a child, if this process is one. Must come first in `main`: namespaces are left before there are
/// threads.
pub(super) fn main() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != MARK {
        return None;
    }
    let (role, parent) = (arguments.next()?, arguments.next()?);
    let tied = set_pdeathsig(Signal::SIGKILL).is_ok() && getppid().to_string() == parent;
    if !tied {
        return Some(ExitCode::FAILURE);
    }
    let ended = match role.as_str() {
        "client" => serve(Client::default(), Client::handle),
        "backends" => serve(Backends::default(), Backends::handle),
        _ => {
            let gateway =
                env::current_exe().map(|program| Command::new(program).args(arguments).exec());
            gateway.and_then(Err)
        }
    };
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {role}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// What a handler answers.
pub(super) type Answer = Result<serde_json::Value, String>;

/// An answer of a serializable value.
pub(super) fn answer(value: impl Serialize) -> Answer {
    serde_json::to_value(value).map_err(|error| error.to_string())
}

/// Takes lines from standard input until it ends.
fn serve<S, M: DeserializeOwned>(mut state: S, handle: fn(&mut S, M) -> Answer) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let say = |answer: Answer| {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    say(answer(()))?;
    for line in io::stdin().lock().lines() {
        let message = serde_json::from_str(&line?).map_err(|error| error.to_string());
        say(message.and_then(|message| handle(&mut state, message)))?;
    }
    Ok(())
}
