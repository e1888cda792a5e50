//! How the state database is set up, and why.

use crate::disk::Reserve;
use crate::error::StorageError;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType,
    LogLevel, Options,
};
use std::path::Path;

/// Settings of a [`StateStore`](super::StateStore); the defaults suit a node on a shared machine.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Checkpoints gather in memory up to this size before they go to sorted files; all together.
    pub write_buffer_bytes: usize,
    /// Cache for blocks and indexes of sorted files, all together.
    pub block_cache_bytes: usize,
    /// A checkpoint that is larger goes in several batches of this size.
    pub batch_bytes: usize,
    /// Size of sorted files.
    pub file_bytes: u64,
    /// Most bytes per second that background work writes; 0 for no limit.
    pub background_bytes_per_second: u64,
    /// Background threads, at most 7.
    pub background_jobs: i32,
    /// Sorted files kept open.
    pub open_files: i32,
    /// Free space of the disk that an install leaves alone.
    pub reserve_bytes: u64,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 32 << 20,
            block_cache_bytes: 16 << 20,
            batch_bytes: 8 << 20,
            file_bytes: 32 << 20,
            background_bytes_per_second: 0,
            background_jobs: 2,
            open_files: 1024,
            reserve_bytes: 0,
        }
    }
}

/// Messages of this size and more go to the family [`BODIES`].
pub(crate) const LARGE_BYTES: usize = 4 << 10;

/// Small messages, and a stub for each large one.
pub(crate) const MESSAGES: &str = "messages";
/// Large messages, kept apart from sorted files so that compaction does not copy them.
///
/// They have a family of their own because [`MESSAGES`] drops whole files when a queue was
/// consumed, which RocksDB does not count as garbage of the separate value files: an old large
/// message would keep those of newer, consumed ones alive.
pub(crate) const BODIES: &str = "bodies";
/// Records of queues and shards.
pub(crate) const RECORDS: &str = "records";
/// Named values in parts.
pub(crate) const BLOBS: &str = "blobs";

/// All families that hold data.
pub(crate) const FAMILIES: [&str; 4] = [MESSAGES, BODIES, RECORDS, BLOBS];
/// Families whose keys begin with shard and epoch.
pub(crate) const SCOPED: [&str; 3] = [MESSAGES, BODIES, RECORDS];

impl StateOptions {
    /// Whether so many more bytes may be written beside what is there. What waits in memory takes its room later: two buffers,
    /// one that is filled and one that is on its way to the disk.
    pub(crate) fn check_room(&self, dir: &Path, bytes: usize) -> Result<(), StorageError> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let in_memory = 2 * self.write_buffer_bytes as u64;
        let needed = in_memory.saturating_add(bytes as u64);
        let reserve = self.reserve_bytes.saturating_add(needed);
        Reserve::new(dir.to_owned(), reserve).check().map(|_| ())
    }

    pub(crate) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        quiet(&mut options);
        // There is no write-ahead log: what survives a crash is what was flushed, and all families
        // are flushed together, so it is everything up to one moment.
        options.set_atomic_flush(true);
        options.set_db_write_buffer_size(self.write_buffer_bytes);
        // Below 8 there is one thread for flushes, so flush requests are done in their order: the
        // waiting in `Inner::flush` relies on that.
        options.set_max_background_jobs(self.background_jobs.clamp(1, 7));
        options.set_bytes_per_sync(1 << 20);
        options.set_max_open_files(self.open_files);
        if let Ok(rate @ 1..) = i64::try_from(self.background_bytes_per_second) {
            options.set_ratelimiter(rate, 100_000, 10);
        }
        options
    }

    pub(crate) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        let mut families = vec![ColumnFamilyDescriptor::new("default", Options::default())];
        families.extend(
            FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, self.family(name, &cache))),
        );
        families
    }

    fn family(&self, name: &str, cache: &Cache) -> Options {
        let mut options = Options::default();
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(3);
        options.set_target_file_size_base(self.file_bytes);
        options.set_max_bytes_for_level_base(4 * self.file_bytes);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::Lz4);
        if name == BODIES {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(0);
            options.set_blob_file_size(2 * self.file_bytes);
            options.set_blob_compression_type(DBCompressionType::Lz4);
            // Bodies that stay must not keep whole files of dead ones.
            options.set_enable_blob_gc(true);
            options.set_blob_gc_age_cutoff(0.25);
            options.set_blob_gc_force_threshold(0.5);
        }
        let mut table = BlockBasedOptions::default();
        table.set_block_size(16 << 10);
        table.set_block_cache(cache);
        // The index of a deep backlog does not fit memory: in parts, and through the cache. No
        // bloom filters, since messages are read by ranges that are known to exist.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_metadata_block_size(4096);
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_pin_top_level_index_and_filter(true);
        table.set_format_version(5);
        options.set_block_based_table_factory(&table);
        options
    }
}

/// Little logging, no periodic statistics.
fn quiet(options: &mut Options) {
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_max_manifest_file_size(16 << 20);
}
