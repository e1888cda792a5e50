//! What the operating system says about this process: memory, files, disk.

use std::path::Path;

/// Resident memory in bytes; 0 where it cannot be read.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| {
            text.split_whitespace()
                .nth(1)
                .and_then(|field| field.parse::<u64>().ok())
        });
    pages.unwrap_or(0) * 4096
}

/// Memory that this process may use: the control group's limit, else the machine's.
#[must_use]
pub fn memory_limit() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo")
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("MemTotal:"))?
                .to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .unwrap_or(u64::MAX / 1024)
        .saturating_mul(1024);
    let group = read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .and_then(|text| text.trim().parse::<u64>().ok());
    group.map_or(machine, |limit| limit.min(machine))
}

/// Open files and their limit.
#[must_use]
pub fn open_files() -> (u64, u64) {
    let used = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limit = std::fs::read_to_string("/proc/self/limits")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find(|line| line.starts_with("Max open files"))?
                .to_owned();
            line.split_whitespace().nth(3)?.parse().ok()
        })
        .unwrap_or(0);
    (used, limit)
}

/// Free bytes of the file system that holds `path`, as far as this process may use them.
#[must_use]
pub fn disk_free(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path)
        .ok()
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
