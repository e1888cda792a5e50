//! Runs a test of this program in a process of its own and kills it, as `kill -9` does.
#![allow(dead_code, unreachable_pub)] // Each test program uses some of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const DIR: &str = "STORAGE_TEST_DIR";
const ROUND: &str = "STORAGE_TEST_ROUND";

/// In the child: where to work, and which round this is. `None` when the test is run by itself.
pub fn task() -> Option<(String, u64)> {
    let dir = std::env::var(DIR).ok()?;
    let round = std::env::var(ROUND).ok()?.parse().ok()?;
    Some((dir, round))
}

/// In the child: tells the parent something. It arrives even if the child dies right after.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "> {line}");
    let _ = out.flush();
}

/// Starts the ignored test `name`, lets it run for `time` after it first says something, kills it,
/// and returns everything that it has said.
pub fn run_and_kill(name: &str, dir: &Path, round: u64, time: Duration) -> Vec<String> {
    run(name, dir, round, |child, lines| {
        let first = lines
            .recv_timeout(Duration::from_secs(60))
            .expect("the child works");
        std::thread::sleep(time);
        child.kill().unwrap();
        vec![first]
    })
}

/// Starts the ignored test `name` and returns everything that it says until it ends by itself,
/// which must be within `limit`.
pub fn run_to_end(name: &str, dir: &Path, round: u64, limit: Duration) -> Vec<String> {
    let deadline = Instant::now() + limit;
    run(name, dir, round, |child, _| {
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("the child does not end");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Vec::new()
    })
}

fn run(
    name: &str,
    dir: &Path,
    round: u64,
    end: impl FnOnce(&mut Child, &Receiver<String>) -> Vec<String>,
) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            name,
            "--nocapture",
            "--test-threads=1",
        ])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // The test runner writes the test's name in front of the first line.
            if let Some((_, said)) = line.split_once("> ") {
                let _ = sender.send(said.to_owned());
            }
        }
    });
    let mut said = end(&mut child, &lines);
    child.wait().unwrap();
    reader.join().unwrap();
    said.extend(lines.try_iter());
    said
}
