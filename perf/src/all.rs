//! `perf all`: every suite, one table, one folder of results.
//!
//! Each suite is a process of its own: DPDK starts once in a process, no suite inherits another's memory, and one that
//! crashes or hangs leaves the others alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use crate::bench::Suite;
use crate::report::{self, Run, SuiteRun};

/// A suite that takes so many times its budget hangs.
const PATIENCE: u32 = 2;

/// Runs every suite, prints one table, and keeps table, JSON and plots in a folder
///
/// A suite that can't run is reported with its reason and makes the exit status 1; the others run all the same.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Run these suites only
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SUITES", conflicts_with = "skip")]
    only: Vec<Suite>,

    /// Run all suites but these
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SUITES")]
    skip: Vec<Suite>,

    /// The folder for result.json, table.txt and plots [default: perf-results/<time>-<commit>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the suites and tells what they say.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut run = Run::begin();
    let out = options.out.clone().unwrap_or_else(|| Path::new("perf-results").join(run.name()));
    let result = out.join("result.json");
    if result.exists() {
        return Err(format!("{}: is there already; name another folder", result.display()).into());
    }
    fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let suites = options.suites();
    if suites.is_empty() {
        return Err("--skip: leaves no suite to run".into());
    }
    for (index, &suite) in suites.iter().enumerate() {
        let (at, of, budget) = (index + 1, suites.len(), suite.budget().as_secs());
        eprintln!("perf: suite {at} of {of}: {} (up to {budget} s)", suite.name());
        add(&mut run, suite, &out)?;
        run.took(start);
        // After every suite: what is measured is not lost when a later one is interrupted.
        run.write(&result)?;
    }
    let table = report::render(&run);
    fs::write(out.join("table.txt"), &table)?;
    let plots = report::draw(&run, &out)?;
    print!("{table}");
    println!("results: {} ({} plots)", out.display(), plots.len());
    let failed = run.failures().next().is_some();
    Ok(ExitCode::from(u8::from(failed)))
}

impl Options {
    fn suites(&self) -> Vec<Suite> {
        let wanted = |suite: &Suite| {
            !self.skip.contains(suite) && (self.only.is_empty() || self.only.contains(suite))
        };
        Suite::ALL.into_iter().filter(wanted).collect()
    }
}

/// Runs one suite and adds what it measured.
fn add(run: &mut Run, suite: Suite, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let file = out.join(format!("{}.json", suite.name()));
    let ended = in_a_process(suite, &file)?;
    let outcome = match Run::read(&file) {
        Ok(part) => {
            run.measurements.extend(part.measurements);
            part.suites
        }
        Err(_) => vec![SuiteRun {
            suite: suite.name().into(),
            seconds: start.elapsed().as_secs_f64(),
            stolen_percent: 0.0,
            settings: String::new(),
            error: Some(format!("{ended}, without a result; `perf {}` tells more", suite.name())),
        }],
    };
    for SuiteRun { suite, seconds, error, .. } in &outcome {
        match error {
            None => eprintln!("perf: {suite} took {seconds:.0} s"),
            Some(error) => eprintln!("perf: {suite} failed after {seconds:.0} s: {error}"),
        }
    }
    run.suites.extend(outcome);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Runs `perf SUITE --json FILE`; says how it ended.
fn in_a_process(suite: Suite, file: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg(suite.name())
        .arg("--json")
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let limit = suite.budget() * PATIENCE;
    let ended = wait(&mut child, limit)?;
    Ok(ended.unwrap_or_else(|| format!("was ended after {} s", limit.as_secs())))
}

/// Waits until the child ends; `None` if it had to be ended.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<String>, std::io::Error> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(format!("ended with {status}")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(only: &[Suite], skip: &[Suite]) -> Vec<Suite> {
        Options { only: only.into(), skip: skip.into(), out: None }.suites()
    }

    #[test]
    fn suites_run_in_one_order_whatever_is_chosen() {
        assert_eq!(suites(&[], &[]), Suite::ALL);
        assert_eq!(suites(&[Suite::Wire, Suite::Path], &[]), [Suite::Path, Suite::Wire]);
        let skipped = [Suite::Connections, Suite::Scale, Suite::Update, Suite::Kernel];
        assert_eq!(suites(&[], &skipped), [Suite::Path, Suite::Wire]);
    }

    #[test]
    fn all_suites_together_take_less_than_ten_minutes() {
        let seconds: u64 = Suite::ALL.iter().map(|suite| suite.budget().as_secs()).sum();
        assert!(seconds < 600, "{seconds}");
    }

    #[test]
    fn a_process_that_hangs_is_ended() {
        let start = Instant::now();
        let mut child = Command::new("sleep").arg("60").spawn().expect("a process");
        assert_eq!(wait(&mut child, Duration::from_millis(200)).expect("an end"), None);
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn how_a_process_ended_is_told() {
        let mut child = Command::new("sh").args(["-c", "exit 3"]).spawn().expect("a process");
        let ended = wait(&mut child, Duration::from_secs(30)).expect("an end");
        assert_eq!(ended.as_deref(), Some("ended with exit status: 3"));
    }
}
