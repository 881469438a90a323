//! Network namespaces, commands in them, and who removes them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::super::Error;

/// A network namespace. It goes with the [`Janitor`] that knows its prefix.
#[derive(Clone, Debug)]
pub(super) struct Namespace {
    name: String,
}

/// Removes all namespaces with a prefix, and a folder, when it is dropped or when this process ends, however it does: it
/// is a process that waits for the end of its input.
#[derive(Debug)]
pub(super) struct Janitor(Child);

impl Janitor {
    pub(super) fn hire(prefix: &str, folder: &Path) -> Result<Self, Error> {
        let script = "cat > /dev/null
for name in $(ip netns list | awk -v p=\"$0\" 'index($1, p) == 1 {print $1}'); do
    pids=$(ip netns pids \"$name\") && [ -z \"$pids\" ] || kill -KILL $pids
    ip netns del \"$name\"
done
rm -rf -- \"$1\"";
        let child = Command::new("sh")
            .args(["-c", script, prefix])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The terminal's Ctrl-C is not for it.
            .process_group(0)
            .spawn();
        child.map(Self).map_err(|error| Error(format!("cannot run `sh`: {error}")))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Namespace {
    /// Makes it, with its loopback device up.
    pub(super) fn new(prefix: &str, role: &str) -> Result<Self, Error> {
        let name = format!("{prefix}{role}");
        feed(Command::new("ip").args(["netns", "add", &name]), "")?;
        let namespace = Self { name };
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Commands of `ip` in here.
    pub(super) fn ip(&self, commands: &[impl AsRef<str>]) -> Result<(), Error> {
        let commands: Vec<_> = commands.iter().map(AsRef::as_ref).collect();
        let mut ip = Command::new("ip");
        feed(ip.args(["-n", &self.name, "-batch", "-"]), &(commands.join("\n") + "\n")).map(drop)
    }

    /// Rules, as a file for `nft`.
    pub(super) fn nft(&self, rules: &str) -> Result<(), Error> {
        feed(self.command("nft").args(["-f", "-"]), rules).map(drop)
    }

    /// What a command in here says.
    pub(super) fn output(&self, program: &str, arguments: &[&str]) -> Result<String, Error> {
        feed(self.command(program).args(arguments), "")
    }

    /// Writes to a file below /proc/sys/net.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), Error> {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| std::fs::write(&path, value))
            .map_err(|error| Error(format!("cannot write {value} to {path}: {error}")))
    }

    /// A program in here. The process is the program itself.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs code whose sockets and whose files below /proc/net and /proc/sys/net are this namespace's.
    pub(super) fn run<T: Send>(
        &self,
        code: impl FnOnce() -> std::io::Result<T> + Send,
    ) -> std::io::Result<T> {
        let path = Path::new("/run/netns").join(&self.name);
        let enter = move || {
            setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?;
            code()
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
    }
}

/// Runs a command to its end with this input; its output. An error has what it said.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<String, Error> {
    let line = || {
        let words = std::iter::once(command_name(command)).chain(arguments(command));
        words.collect::<Vec<_>>().join(" ")
    };
    let line = line();
    let failed = |error: &dyn std::fmt::Display| Error(format!("`{line}`: {error}"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that has ended already says why below.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(&format!(
        "{}: {}",
        output.status,
        said.lines().take(3).collect::<Vec<_>>().join("; ")
    )))
}

fn command_name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn arguments(command: &Command) -> impl Iterator<Item = String> {
    command.get_args().map(|argument| argument.to_string_lossy().into_owned())
}
