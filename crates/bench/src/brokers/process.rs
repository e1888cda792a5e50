//! A child process with its log, stopped when dropped.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// A running child. It shares the terminal's process group, so that Ctrl-C ends it as well.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Starts `command`; what it prints is appended to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let (out, err) = (open()?, open()?);
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks `pid`, the child or what it has started, to stop; kills both after some patience.
    pub(crate) fn stop(&mut self, pid: u32) {
        signal(pid, Signal::TERM);
        let since = Instant::now();
        while !self.has_ended() {
            if since.elapsed() > Self::PATIENCE {
                signal(pid, Signal::KILL);
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal; a process that is gone needs none.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
