//! Why the demo did not take place. What it found wrong while it did is no failure but a line of the report.

use std::time::Duration;

use thiserror::Error;

/// See the module.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The kernel, or a policy, does not allow it.
    #[error("cannot make namespaces of my own ({what}: {error})\n{advice}")]
    Namespaces { what: &'static str, error: String, advice: String },
    /// The scenery could not be put up.
    #[error("cannot {what}: {error}{advice}")]
    Setup { what: String, error: String, advice: String },
    /// The client's or backends' process is gone, or says no.
    #[error("the demo's {peer}: {error}")]
    Peer { peer: &'static str, error: String },
    /// `vipgate run` did not do what was expected.
    #[error("the gateway {what}; the end of its log:\n{log}")]
    Gateway { what: String, log: String },
    /// Something took too long.
    #[error("{what} took more than {limit:?}")]
    TooSlow { what: String, limit: Duration },
}

impl Failure {
    /// Without advice.
    pub(super) fn setup(what: impl Into<String>, error: impl ToString) -> Self {
        Self::Setup { what: what.into(), error: error.to_string(), advice: String::new() }
    }
}
