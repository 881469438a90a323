//! What the service manager is told (systemd, `Type=notify`): one line of status, ready, alive, stopping.
//!
//! Ready means what `/readyz` means. Alive means what `/livez` means: the control thread still gets its turns. Where no
//! service manager listens (`NOTIFY_SOCKET` is not set), all of it does nothing.

use std::env;
use std::sync::Once;
use std::time::Duration;

use control::admin::{Admin, Check};
use sd_notify::NotifyState;
use tracing::warn;

/// Between two looks; a watchdog's time must be well above it.
const LOOK: Duration = Duration::from_millis(500);

/// Tells of readiness and life, for ever; drop the future to stop.
pub async fn report(admin: &Admin) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let watched = sd_notify::watchdog_enabled().is_some();
    let mut announced = false;
    let mut told = None;
    loop {
        let problems: Vec<String> = admin.readiness().failed().map(Check::to_string).collect();
        let status = if problems.is_empty() { "ready".to_owned() } else { problems.join("; ") };
        if told.as_ref() != Some(&status) {
            tell(&[NotifyState::Status(&status)]);
            told = Some(status);
        }
        // Once: a link that goes down later is no new start.
        if problems.is_empty() && !announced {
            tell(&[NotifyState::Ready]);
            announced = true;
        }
        if watched {
            tell(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells that the end has begun.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    static WARNED: Once = Once::new();
    if let Err(error) = sd_notify::notify(states) {
        WARNED.call_once(|| warn!(%error, "cannot tell the service manager"));
    }
}
