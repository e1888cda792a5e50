//! Idle connections, held by processes of their own: one alone may not open as many files as there are to be.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::client::Uri;
use crate::connections::ALL_OPEN;

/// Connections of one process, at most.
const EACH: usize = 8000;

/// Connections that are open until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held {
    holders: Vec<Child>,
    count: usize,
}

impl Held {
    /// Opens more of them, each with a channel, until there are `count`.
    pub(super) fn grow(&mut self, uris: &[Uri], count: usize) -> anyhow::Result<()> {
        // Nodes that this program has started, with the password that everybody knows.
        let uris = uris
            .iter()
            .map(|uri| format!("amqp://guest:guest@{}:{}/%2F", uri.host, uri.port));
        let uris = uris.collect::<Vec<_>>().join(",");
        while self.count < count {
            let more = (count - self.count).min(EACH);
            let mut holder = Command::new(std::env::current_exe()?)
                .args(["connections", "--no-queue", "--until-stdin-ends"])
                .arg(format!("--connections={more}"))
                .arg(format!("--uris={uris}"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("starting a process that holds connections")?;
            let said = holder.stdout.take().context("it says nothing")?;
            self.holders.push(holder);
            let mut line = String::new();
            BufReader::new(said).read_line(&mut line)?;
            ensure!(
                line.trim() == ALL_OPEN,
                "not all connections could be opened"
            );
            self.count += more;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // The end of its input ends it.
            drop(holder.stdin.take());
            let _ = holder.wait();
        }
    }
}
