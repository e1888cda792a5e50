//! Processor time and memory of processes, from `/proc`.
//!
//! The steady figure of a comparison: throughput depends on what else the machine does, the
//! processor time that a message costs hardly does.

use anyhow::Context as _;
use serde::Serialize;

/// What processes have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Processor time in nanoseconds, user and system.
    pub(crate) cpu_ns: u64,
    /// Resident memory in bytes.
    pub(crate) rss_bytes: u64,
}

/// The sum over some processes.
pub(crate) fn usage_of(pids: &[u32]) -> anyhow::Result<Usage> {
    let mut sum = Usage::default();
    for pid in pids {
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("process {pid}"))
        };
        sum.cpu_ns += cpu_ns(&read("stat")?).with_context(|| format!("process {pid}"))?;
        sum.rss_bytes += rss_bytes(&read("status")?).with_context(|| format!("process {pid}"))?;
    }
    Ok(sum)
}

/// Processor time of this process.
pub(crate) fn cpu_of_self() -> u64 {
    std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| cpu_ns(&stat))
        .unwrap_or(0)
}

/// User and system time from the `stat` file: the 14th and 15th field. The second is the program's
/// name in parentheses and may hold anything.
fn cpu_ns(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * (1_000_000_000 / rustix::param::clock_ticks_per_second()))
}

/// Resident memory from the `status` file.
fn rss_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_stat() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 100 1 2";
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(cpu_ns(stat), Some(300 * tick));
        assert_eq!(cpu_ns("42 (a) S 1"), None);
        assert_eq!(
            rss_bytes("VmHWM:\t9 kB\nVmRSS:\t 2048 kB\n"),
            Some(2 * 1024 * 1024)
        );
        assert_eq!(rss_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_process() {
        let usage = usage_of(&[std::process::id()]).unwrap();
        assert!(usage.rss_bytes > 100_000);
        assert!(usage_of(&[u32::MAX]).is_err());
    }
}
