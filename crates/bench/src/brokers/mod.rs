//! Brokers on this machine: their nodes as child processes, and what is known about them.

mod cluster;
pub(crate) mod leader;
mod ports;
mod process;
mod rabbitmq;
mod warren;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub(crate) use cluster::{Broker, Cluster};
pub(crate) use rabbitmq::find as find_rabbitmq;

/// Where nodes keep their data; a temporary one is removed at the end.
pub(crate) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// `chosen`, which is left, or else a temporary one.
    pub(crate) fn new(chosen: Option<&Path>) -> anyhow::Result<Self> {
        let temporary =
            || std::env::temp_dir().join(format!("warren-bench-{}", std::process::id()));
        let path = chosen.map_or_else(temporary, Path::to_owned);
        std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self {
            path: path.canonicalize()?,
            temporary: chosen.is_none(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is the system's to clean.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
