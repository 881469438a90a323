//! Whether packets can be served: tables loaded, ports up, workers polling.

use std::fmt;

use serde::Serialize;

use super::Admin;

/// The answer of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether all checks passed.
    pub ready: bool,
    /// Every check.
    pub checks: Vec<Check>,
}

/// One condition of being ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `tables`, `ports` or `workers`.
    pub name: &'static str,
    /// Why it fails; `None` when it does not.
    pub problem: Option<String>,
}

/// The way to the first complete tables; later ones may wait for a worker without doing harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum FirstTables {
    #[default]
    Awaited,
    /// In this generation, or an earlier one.
    Published(u64),
    /// Every worker has them.
    Loaded,
}

impl Readiness {
    /// The checks that fail.
    pub fn failed(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.problem.is_some())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.problem.as_deref().unwrap_or("ok"))
    }
}

impl Admin {
    /// Whether the process is ready for packets, and what is missing.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let checks = vec![
            Check { name: "tables", problem: self.tables_problem() },
            Check { name: "ports", problem: self.ports_problem() },
            Check { name: "workers", problem: self.workers_problem() },
        ];
        Readiness { ready: checks.iter().all(|check| check.problem.is_none()), checks }
    }

    fn tables_problem(&self) -> Option<String> {
        let control = self.control.status();
        let mut seen = self.seen();
        if control.synced && seen.tables == FirstTables::Awaited {
            seen.tables = FirstTables::Published(control.generation);
        }
        match seen.tables {
            FirstTables::Awaited => Some("no complete list of Services yet".to_owned()),
            FirstTables::Published(generation) if control.acknowledged < generation => {
                Some("the first tables are not yet held by every worker".to_owned())
            }
            _ => {
                seen.tables = FirstTables::Loaded;
                None
            }
        }
    }

    fn ports_problem(&self) -> Option<String> {
        let ports = self.devices.ports();
        let down: Vec<&str> =
            ports.iter().filter(|port| !port.link_up).map(|port| port.name.as_str()).collect();
        (!down.is_empty()).then(|| format!("no link on {}", down.join(", ")))
    }

    fn workers_problem(&self) -> Option<String> {
        let seen = self.seen();
        let polling = |id| seen.samples.polls(id) == Some(true);
        let idle = self.workers.iter().enumerate().filter(|(id, _)| !polling(*id));
        let idle: Vec<String> = idle.map(|(_, worker)| format!("core {}", worker.core)).collect();
        (!idle.is_empty()).then(|| format!("not seen polling: {}", idle.join(", ")))
    }
}
