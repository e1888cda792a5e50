//! How the log's files are kept.

/// Settings of a [`LogStore`](super::LogStore); the defaults suit a node on a shared machine.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A file of the log is followed by the next one when it is so long.
    pub segment_bytes: u64,
    /// Files that are kept for reuse: a sync of what was written before is cheaper.
    pub recycled_files: usize,
    /// A file that is new is written so far ahead of small batches, for the same reason.
    pub ahead_bytes: u64,
    /// Most bytes of entries that go into one synced write.
    pub batch_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 32 << 20,
            recycled_files: 6,
            ahead_bytes: 256 << 10,
            batch_bytes: 8 << 20,
        }
    }
}
