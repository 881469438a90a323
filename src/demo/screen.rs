//! The picture for people: plain lines, colours only where somebody looks at them.

use std::env;
use std::io::{IsTerminal, Write, stdout};

use super::plan::BACKENDS;
use super::report::Tally;

/// Colours of the backends, and of good and bad news (SGR numbers).
const COLOURS: [&str; BACKENDS.len()] = ["31", "32", "34", "33"];
const GOOD: &str = "1;32";
const BAD: &str = "1;31";
const HEADING: &str = "1";

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    quiet: bool,
    colour: bool,
}

impl Screen {
    /// Says nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = stdout().is_terminal() && env::var("TERM").is_ok_and(|term| term != "dumb");
        Self { quiet, colour: wanted && able }
    }

    pub(super) fn line(self, text: impl AsRef<str>) {
        if !self.quiet {
            // Whoever reads may have gone, as `head` does.
            let _ = writeln!(stdout(), "{}", text.as_ref());
        }
    }

    pub(super) fn heading(self, text: &str) {
        self.line(format!("\n{}\n", self.paint(HEADING, text)));
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint(GOOD, text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint(BAD, text)
    }

    /// A backend's name in its colour.
    pub(super) fn backend(self, name: &str) -> String {
        self.backend_text(name, name)
    }

    /// Answers by backend, with each of the first `count` backends in its own column: `red 4  green 5  blue 3`.
    pub(super) fn shares(self, tally: &Tally, count: usize) -> String {
        let columns = BACKENDS[..count].iter().map(|backend| {
            let text = format!("{} {:<3}", backend.name, tally.of(backend.name));
            if tally.of(backend.name) == 0 {
                " ".repeat(text.len())
            } else {
                self.backend_text(backend.name, &text)
            }
        });
        let columns: Vec<String> = columns.collect();
        columns.join(" ")
    }

    fn backend_text(self, name: &str, text: &str) -> String {
        let number = BACKENDS.iter().position(|backend| backend.name == name);
        number.map_or_else(|| text.to_owned(), |number| self.paint(COLOURS[number], text))
    }

    fn paint(self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
