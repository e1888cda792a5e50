//! What the operating system says about this process: memory, files, disk.

pub use consensus::ticks::follow_system_clock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
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

/// Memory that this process may use: the least limit of its control groups, else the machine's.
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
    group_limit(&read).map_or(machine, |limit| limit.min(machine))
}

/// The least limit of the control groups that this process is in. A container sees its own group as the root; a service, or
/// a container that shares the machine's groups, is somewhere below it.
fn group_limit(read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    // NUMBER:CONTROLLERS:PATH; the second version has one group and no controllers there.
    let places = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        match controllers {
            "" => Some(("/sys/fs/cgroup", path, &["memory.max", "memory.high"][..])),
            _ => controllers
                .split(',')
                .any(|name| name == "memory")
                .then_some((
                    "/sys/fs/cgroup/memory",
                    path,
                    &["memory.limit_in_bytes"][..],
                )),
        }
    });
    let mut limits = Vec::new();
    for (root, path, files) in places {
        let mut group = path.trim_end_matches('/');
        loop {
            let texts = files
                .iter()
                .filter_map(|file| read(&format!("{root}{group}/{file}")));
            // "max" is no limit.
            limits.extend(texts.filter_map(|text| text.trim().parse::<u64>().ok()));
            let Some((above, _)) = group.rsplit_once('/') else {
                break;
            };
            group = above;
        }
    }
    limits.into_iter().min()
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

/// Raises the limit of open files as far as this process may: the usual 1,024 is for programs that use
/// `select`, and every connection takes one.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where that is refused, the lower limit is what there is to share out.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
}

/// Has new files and directories of this process readable by its user and group only: messages and password hashes are
/// nobody else's business, and the data directory may be open to all.
pub fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
}

/// How many file descriptors each user of them may have, by the limit of this process. A store that cannot
/// open a file ends the node, so nobody who connects may take the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileShares {
    /// Connections of AMQP clients.
    pub clients: usize,
    /// Connections to the management port.
    pub operators: usize,
    /// Connections to the cluster port that have not said who they are.
    pub strangers: usize,
    /// Sorted files of the state store.
    pub store: i32,
}

impl FileShares {
    /// By the limit as it is now.
    #[must_use]
    pub fn now() -> Self {
        Self::of(open_files().1)
    }

    /// By a limit of so many files; 0: not known.
    fn of(files: u64) -> Self {
        /// Left to all but clients.
        const KEPT: u64 = 4096;
        let files = if files == 0 { u64::MAX } else { files };
        let part = |share: u64, most: u64| share.clamp(1, most);
        Self {
            clients: usize::try_from(files - KEPT.min(files / 2)).unwrap_or(usize::MAX),
            operators: part(files / 8, 1024) as usize,
            strangers: part(files / 16, 512) as usize,
            store: part(files / 8, 1024) as i32,
        }
    }
}

/// Free bytes of the file system that holds `path`, as far as this process may use them.
#[must_use]
pub fn disk_free(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path)
        .ok()
        .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_what_is_allowed() {
        raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[test]
    fn the_least_limit_of_the_control_groups_counts() {
        let service = "/sys/fs/cgroup/system.slice/warren.service";
        for (groups, files, expected) in [
            // A container: what it sees as the root is its own group.
            (
                "0::/\n",
                vec![("/sys/fs/cgroup/memory.max", "500\n")],
                Some(500),
            ),
            ("0::/\n", vec![("/sys/fs/cgroup/memory.max", "max\n")], None),
            // A service: its group, and those above.
            (
                "0::/system.slice/warren.service\n",
                vec![(&*format!("{service}/memory.max"), "500\n")],
                Some(500),
            ),
            (
                "0::/system.slice/warren.service\n",
                vec![
                    (&*format!("{service}/memory.max"), "500\n"),
                    (&*format!("{service}/memory.high"), "400\n"),
                    ("/sys/fs/cgroup/system.slice/memory.max", "300\n"),
                ],
                Some(300),
            ),
            // The first version, the path being that of the machine.
            (
                "12:cpu,cpuacct:/docker/ab\n5:memory:/docker/ab\n0::/docker/ab\n",
                vec![("/sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n")],
                Some(500),
            ),
            ("", vec![], None),
        ] {
            let read = |path: &str| {
                if path == "/proc/self/cgroup" {
                    return Some(groups.to_owned());
                }
                let found = files.iter().find(|(file, _)| *file == path);
                found.map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(group_limit(&read), expected, "{groups:?} {files:?}");
        }
    }

    #[test]
    fn shares_leave_something() {
        for (files, shares) in [
            (256, [128, 32, 16, 32]),
            (1024, [512, 128, 64, 128]),
            (20_000, [15_904, 1024, 512, 1024]),
            (1_048_576, [1_044_480, 1024, 512, 1024]),
        ] {
            let FileShares {
                clients,
                operators,
                strangers,
                store,
            } = FileShares::of(files);
            assert_eq!([clients, operators, strangers, store as usize], shares);
            assert!(shares.iter().sum::<usize>() as u64 <= files - files.min(4096) / 8);
        }
        assert!(FileShares::of(0).clients > 1 << 40, "not known");
    }
}
