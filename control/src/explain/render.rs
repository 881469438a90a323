//! Explanations for people: the flow, its steps, the verdict.

use std::fmt::Write;

use super::Explanation;

/// Width of the first column.
const ABOUT: usize = 11;

/// All of them, one below the other.
#[must_use]
pub fn render(explanations: &[Explanation]) -> String {
    let mut text = String::new();
    for (i, explanation) in explanations.iter().enumerate() {
        if i > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", explanation.flow);
        for step in &explanation.steps {
            let _ = writeln!(text, "  {:<ABOUT$} {}", step.about, step.text);
        }
    }
    text
}
