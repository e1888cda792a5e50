//! Who this node is: a small file in its data directory.
//!
//! It is written before anything else may rely on it, and replaced as a whole (write aside, sync,
//! rename, sync the directory). It is text, so that an operator can read it; a checksum tells a
//! damaged file from an edited one, and both are refused.

use crate::error::StartError;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A start has its generation above so many bits.
const START_BITS: u32 = 44;
const FILE: &str = "identity";
const HEADER: &str = "warren identity 1";

/// Who this node is, from its data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: u64,
    /// Counts the disks this node has had, as far as its cluster knows.
    pub generation: u64,
    /// Grows with every start of the process (milliseconds since the epoch, made monotone on disk).
    pub incarnation: u64,
    /// The cluster, once it is formed or joined.
    pub cluster: Option<u64>,
    /// Groups besides the catalog, fixed when the cluster was formed.
    pub shards: u32,
}

impl Identity {
    /// Number of this start of the node: greater than that of any earlier one, also on a disk that was lost
    /// meanwhile, and whatever the clock says now.
    ///
    /// The generation stands above the milliseconds, which reach 2^44 in the year 2527.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.generation
            .saturating_mul(1 << START_BITS)
            .saturating_add(self.incarnation)
    }

    /// The generation of the disk that a start was made with.
    #[must_use]
    pub const fn generation_of(start: u64) -> u64 {
        start >> START_BITS
    }
}

/// How far this node has come in becoming a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No cluster yet.
    Outside,
    /// It has made up a cluster, but the others may not know it yet.
    Founding,
    /// Accepted into a cluster, but not a voter in all groups yet.
    Joining,
    /// A voter in all groups.
    Member,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Founding => "founding",
            Self::Joining => "joining",
            Self::Member => "member",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Outside, Self::Founding, Self::Joining, Self::Member]
            .into_iter()
            .find(|standing| standing.name() == name)
    }
}

/// The file, opened for this start of the process.
#[derive(Debug, Clone)]
pub(crate) struct IdentityFile {
    path: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) standing: Standing,
}

impl IdentityFile {
    /// Reads the file, or makes one for a new disk, and counts this start.
    pub(crate) fn open(dir: &Path, node: u64) -> Result<Self, StartError> {
        let mut file = Self::read(dir, node)?.unwrap_or_else(|| Self {
            path: dir.join(FILE),
            identity: Identity {
                node,
                generation: 0,
                incarnation: 0,
                cluster: None,
                shards: 0,
            },
            standing: Standing::Outside,
        });
        file.count_start();
        file.save()?;
        Ok(file)
    }

    /// Reads the file, if there is one, and changes nothing.
    pub(crate) fn read(dir: &Path, node: u64) -> Result<Option<Self>, StartError> {
        let path = dir.join(FILE);
        let refused = |reason: String| StartError::Identity {
            path: path.display().to_string(),
            reason,
        };
        let (identity, standing) = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| {
                refused("damaged or edited; restore it, or empty the data directory to rejoin as a new replica".into())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(told(&error))),
        };
        if identity.node != node {
            return Err(refused(format!(
                "this data belongs to node {}, but the node id is {node}",
                identity.node
            )));
        }
        Ok(Some(Self {
            path,
            identity,
            standing,
        }))
    }

    /// Makes what follows a start of its own.
    pub(crate) fn count_start(&mut self) {
        let next = self.identity.incarnation.saturating_add(1);
        self.identity.incarnation = now_millis().max(next);
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file; durable on return. Blocking, but short and rare.
    pub(crate) fn save(&self) -> Result<(), StartError> {
        self.write().map_err(|error| StartError::Identity {
            path: self.path.display().to_string(),
            reason: told(&error),
        })
    }

    fn write(&self) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(render(&self.identity, self.standing).as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    }
}

/// An error of the operating system, with advice.
fn told(error: &io::Error) -> String {
    let text = error.to_string();
    format!("{text}; {}", storage::disk::advice(&text))
}

fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn body(identity: &Identity, standing: Standing) -> String {
    let cluster = identity
        .cluster
        .map_or("-".to_owned(), |cluster| format!("{cluster:016x}"));
    format!(
        "{HEADER}\nnode={}\ngeneration={}\nincarnation={}\ncluster={cluster}\nshards={}\nstanding={}\n",
        identity.node,
        identity.generation,
        identity.incarnation,
        identity.shards,
        standing.name(),
    )
}

fn render(identity: &Identity, standing: Standing) -> String {
    let body = body(identity, standing);
    let checksum = crc32c::crc32c(body.as_bytes());
    format!("{body}checksum={checksum:08x}\n")
}

fn parse(text: &str) -> Option<(Identity, Standing)> {
    let value = |key: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    let identity = Identity {
        node: value("node")?.parse().ok()?,
        generation: value("generation")?.parse().ok()?,
        incarnation: value("incarnation")?.parse().ok()?,
        cluster: match value("cluster")? {
            "-" => None,
            cluster => Some(u64::from_str_radix(cluster, 16).ok()?),
        },
        shards: value("shards")?.parse().ok()?,
    };
    let standing = Standing::parse(value("standing")?)?;
    // Whatever differs from what this version writes is not taken for an identity.
    (render(&identity, standing) == text).then_some((identity, standing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_restarts_and_counts_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = IdentityFile::open(dir.path(), 3).unwrap();
        assert_eq!(first.standing, Standing::Outside);
        first.identity.cluster = Some(0xabc);
        first.identity.generation = 2;
        first.identity.shards = 8;
        first.standing = Standing::Member;
        first.save().unwrap();
        let second = IdentityFile::open(dir.path(), 3).unwrap();
        assert!(second.identity.incarnation > first.identity.incarnation);
        assert_eq!(second.identity.cluster, Some(0xabc));
        assert_eq!(
            (second.identity.generation, second.standing),
            (2, Standing::Member)
        );
    }

    #[test]
    fn a_new_disk_starts_later_than_a_lost_one_though_its_clock_is_behind() {
        let identity = |generation, incarnation| Identity {
            node: 3,
            generation,
            incarnation,
            cluster: Some(0xabc),
            shards: 8,
        };
        let lost = identity(0, now_millis());
        assert_eq!(lost.start(), lost.incarnation);
        assert!(identity(0, lost.incarnation + 1).start() > lost.start());
        assert!(identity(1, 0).start() > lost.start());
        assert!(identity(2, 0).start() > identity(1, now_millis()).start());
    }

    #[test]
    fn foreign_and_damaged_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        IdentityFile::open(dir.path(), 3).unwrap();
        assert!(IdentityFile::open(dir.path(), 4).is_err());
        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text.replace("generation=0", "generation=1"),
            text[..20].to_owned(),
            String::new(),
        ] {
            fs::write(&path, damaged).unwrap();
            assert!(IdentityFile::open(dir.path(), 3).is_err());
        }
    }
}
