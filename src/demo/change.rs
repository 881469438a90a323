//! Second act: one backend drains and goes, another one comes, while a download, a UDP flow and new connections run.
//!
//! The backend that goes is the one that has the download, and the UDP flow is one that it answers.

use std::time::{Duration, Instant};

use super::failure::Failure;
use super::gateway::Gateway;
use super::manifests::{Condition, Conditions};
use super::payload;
use super::plan::{BACKENDS, Family, Kind};
use super::report::{Change, Download, Flow, Report, Tally};
use super::screen::Screen;
use super::stage::Stage;
use super::talk::{Downloaded, Flowed, ToBackends, ToClient, Turn};

/// New connections in a row between two looks.
const HANDFUL: usize = 4;
/// The times of the steps before, between and after the changes.
const STEP: Duration = Duration::from_millis(800);
const FAMILY: Family = Family::V4;

/// Before the second act.
pub(super) const AT_FIRST: Conditions =
    [Condition::Ready, Condition::Ready, Condition::Ready, Condition::Absent];

/// Plays the act.
pub(super) fn play(stage: &mut Stage, report: &mut Report, screen: Screen) -> Result<(), Failure> {
    screen.heading("2  A backend goes and another one comes while a download runs");
    let mut act = Act { stage, screen, begin: Instant::now(), change: Change::default() };
    act.begin()?;
    act.change.before = act.connect_for(STEP)?;
    act.drain()?;
    act.change.after = act.connect_for(STEP)?;
    act.remove()?;
    for _ in 0..2 {
        let more = act.connect_for(STEP)?;
        act.change.removed.append(more);
    }
    act.end()?;
    let change = act.change;
    check(&change, report);
    report.change = Some(change);
    Ok(())
}

struct Act<'a> {
    stage: &'a mut Stage,
    screen: Screen,
    begin: Instant,
    change: Change,
}

impl Act<'_> {
    fn begin(&mut self) -> Result<(), Failure> {
        let to = Kind::LoadBalancer.http(FAMILY);
        let drained: String = self.stage.client.ask(&ToClient::Download { to })?;
        self.begin = Instant::now();
        let to_echo = Kind::LoadBalancer.echo(FAMILY);
        let flow = ToClient::Flow { to: to_echo, backend: drained.clone() };
        self.change.flow.port = self.stage.client.ask(&flow)?;
        self.change.added = BACKENDS[BACKENDS.len() - 1].name.to_owned();
        self.tell(&format!(
            "{} sends {} MiB through {to}; datagrams of port {} go to {} as well",
            self.screen.backend(&drained),
            payload::SIZE >> 20,
            self.change.flow.port,
            self.screen.backend(&drained),
        ));
        self.change.drained = drained;
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Failure> {
        let added = self.change.added.clone();
        self.stage.backends.ask::<()>(&ToBackends::Start { backend: added.clone() })?;
        let mut conditions = [Condition::Ready; BACKENDS.len()];
        conditions[self.drained()] = Condition::Draining;
        self.change.drain_millis = self.apply(&conditions)?;
        self.tell(&format!(
            "{} is draining, {} is there; all workers know, {} ms after the manifest was written",
            self.screen.backend(&self.change.drained),
            self.screen.backend(&added),
            self.change.drain_millis
        ));
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Failure> {
        let mut conditions = [Condition::Ready; BACKENDS.len()];
        conditions[self.drained()] = Condition::Absent;
        self.change.remove_millis = self.apply(&conditions)?;
        let drained = self.change.drained.clone();
        // A pod that ends closes its listening sockets and finishes what it has begun.
        self.stage.backends.ask::<()>(&ToBackends::Stop { backend: drained.clone() })?;
        self.tell(&format!(
            "{} is no endpoint any more and accepts nothing; workers know after {} ms",
            self.screen.backend(&drained),
            self.change.remove_millis
        ));
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        let client = &mut self.stage.client;
        let Downloaded { bytes, sum, longest_pause, error } = client.ask(&ToClient::Downloaded)?;
        let Flowed { sent, lost, backends } = client.ask(&ToClient::Flowed)?;
        let right = error.is_none() && bytes == payload::SIZE && sum == payload::expected_sum();
        self.change.download = Download {
            backend: self.change.drained.clone(),
            bytes,
            sum_is_right: right,
            longest_pause_millis: longest_pause,
        };
        let verdict = if right { "every byte right" } else { "BROKEN" };
        self.tell(&format!(
            "download from {} complete: {bytes} bytes, {verdict}, longest pause {longest_pause} ms",
            self.screen.backend(&self.change.drained),
        ));
        let turn = |turn: &Turn| format!("{} {}", self.screen.backend(&turn.backend), turn.answers);
        let path: Vec<String> = backends.iter().map(turn).collect();
        let port = self.change.flow.port;
        self.tell(&format!("datagrams of port {port}: {}; {lost} lost", path.join(", then ")));
        self.change.flow = Flow { port, sent, lost, backends };
        Ok(())
    }

    /// Changes the endpoints, with new connections all the while. Returns the milliseconds until workers know.
    fn apply(&mut self, conditions: &Conditions) -> Result<u64, Failure> {
        self.stage.gateway.change(conditions)?;
        let begin = Instant::now();
        while !self.stage.gateway.changed()? {
            if begin.elapsed() > Gateway::patience() {
                let what = "a change of the endpoints".to_owned();
                return Err(Failure::TooSlow { what, limit: Gateway::patience() });
            }
            let request = ToClient::Requests { to: Kind::LoadBalancer.http(FAMILY), count: 1 };
            self.change.during.add(self.stage.client.ask(&request)?);
        }
        Ok(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Makes new connections for a while, and shows who got them and how far the download is.
    fn connect_for(&mut self, time: Duration) -> Result<Tally, Failure> {
        let begin = Instant::now();
        let mut tally = Tally::default();
        while begin.elapsed() < time {
            for family in Family::here() {
                let to = Kind::LoadBalancer.http(family);
                tally.add(self.stage.client.ask(&ToClient::Requests { to, count: HANDFUL })?);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let bytes: u64 = self.stage.client.ask(&ToClient::Progress)?;
        let percent = bytes * 100 / payload::SIZE;
        let shares = self.screen.shares(&tally, BACKENDS.len());
        let text = format!("download at {percent:>2} %   new connections: {shares}");
        self.tell(text.trim_end());
        Ok(tally)
    }

    fn tell(&self, text: &str) {
        self.screen.line(format!("   {:>4.1} s  {text}", self.begin.elapsed().as_secs_f64()));
    }

    fn drained(&self) -> usize {
        let drained = &self.change.drained;
        BACKENDS.iter().position(|backend| backend.name == drained).unwrap_or_default()
    }
}

fn check(change: &Change, report: &mut Report) {
    let Change { drained, added, before, during, after, removed, download, flow, .. } = change;
    let mut problem = |bad: bool, text: String| {
        if bad {
            report.problems.push(text);
        }
    };
    for (when, tally) in
        [("before", before), ("during", during), ("after", after), ("at the end of", removed)]
    {
        let errors = &tally.errors;
        problem(
            !errors.is_empty(),
            format!("{when} the change new connections failed: {errors:?}"),
        );
    }
    for tally in [after, removed] {
        let wrong = tally.of(drained);
        problem(wrong > 0, format!("{drained} got {wrong} new connections after it was drained"));
        problem(tally.of(added) == 0, format!("{added} got no new connection"));
    }
    problem(!download.sum_is_right, format!("the download broke after {} bytes", download.bytes));
    let answered: usize = flow.backends.iter().map(|turn| turn.answers).sum();
    let last = flow.backends.last().map(|turn| &turn.backend);
    problem(
        flow.lost > 0 || answered != flow.sent,
        format!("{} of {} datagrams were lost: {:?}", flow.lost, flow.sent, flow.backends),
    );
    problem(
        last.is_none_or(|last| last == drained),
        format!("the datagrams did not move from {drained} to a live backend"),
    );
}
