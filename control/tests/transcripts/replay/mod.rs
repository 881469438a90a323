//! Recorded lists and watches played to the Kubernetes source: what rows come of them.
//!
//! Each test plays a file in steps; a step names the request before which it stops (0: the end), and the rows there are then.
//! They were read off the file by hand.

mod services;
mod slices;

use control::source::kubernetes::Scope;

use super::file::Transcript;
use super::player::Player;
use super::support::follow::{following_all, until_row, until_rows};

/// In all clusters, and without endpoints in the files.
const KUBERNETES: &str = "default/kubernetes:https/tcp 10.96.0.1:443 -> nobody";

/// Plays a file in steps.
async fn play(file: &str, steps: &[(u32, &[&str])]) {
    let (player, url) = Player::start(Transcript::of(file)).await;
    following_all(&url, Scope::All, async |handle| {
        for (id, expected) in steps {
            if let Some(mark) = player.play_until(*id).await {
                until_row(&handle, &mark).await;
            }
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            // Rows may come late: half of a move waits for the other half.
            let good = |rows: &[String]| {
                let rows = rows.iter().filter(|row| !row.starts_with("mark/"));
                rows.map(String::as_str).eq(expected.iter().copied())
            };
            let what = format!("file {file} before request {id}\n{}", expected.join("\n"));
            until_rows(&handle, good, &what).await;
        }
    })
    .await;
}
