//! How the log database is set up, and why.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

/// Settings of a [`LogStore`](super::LogStore); the defaults suit a node on a shared machine.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Entries are gathered in memory up to this size before they go to sorted files; entries that
    /// are purged earlier are never written a second time.
    pub write_buffer_bytes: usize,
    /// Most memory for entries that wait to be written to sorted files, in write buffers.
    pub write_buffers: i32,
    /// Write-ahead log files kept for reuse: a sync of an already allocated file is cheaper.
    pub recycled_files: usize,
    /// Cache for blocks of sorted files.
    pub cache_bytes: usize,
    /// Most bytes of entries that go into one synced write.
    pub batch_bytes: usize,
    /// Read and check every retained entry when the store is opened. Without it only the order of
    /// indices is checked, and a damaged value is found when it is first read.
    pub verify_on_open: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 64 << 20,
            write_buffers: 4,
            recycled_files: 4,
            cache_bytes: 8 << 20,
            batch_bytes: 8 << 20,
            verify_on_open: true,
        }
    }
}

/// Values from this size on are kept apart from the sorted files, so that compaction does not copy
/// them.
const MIN_BLOB_BYTES: u64 = 4 << 10;

impl LogOptions {
    pub(crate) fn rocksdb(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        quiet(&mut options);

        // Cuts a torn tail. It also stops at damage in the middle, which the witness notices. The
        // stricter modes exclude recycling, and refuse to start after a plain power loss.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        options.set_recycle_log_file_num(self.recycled_files);
        options.set_max_total_wal_size(4 * self.write_buffer_bytes as u64);

        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(self.write_buffers);
        // One thread writes: no machinery for concurrent writers.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);

        options.set_max_background_jobs(2);
        options.set_bytes_per_sync(1 << 20);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_target_file_size_base(self.write_buffer_bytes as u64);
        options.set_max_bytes_for_level_base(4 * self.write_buffer_bytes as u64);
        // What is left here is small or purged soon.
        options.set_compression_type(DBCompressionType::None);

        options.set_enable_blob_files(true);
        options.set_min_blob_size(MIN_BLOB_BYTES);
        options.set_blob_file_size(self.write_buffer_bytes as u64);
        options.set_blob_compression_type(DBCompressionType::None);
        // An idle group's old entries must not pin the files of busy ones for ever.
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(0.25);
        options.set_blob_gc_force_threshold(0.5);

        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&Cache::new_lru_cache(self.cache_bytes));
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        options.set_block_based_table_factory(&table);
        options
    }
}

/// Little logging, no periodic statistics.
pub(crate) fn quiet(options: &mut Options) {
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(4 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_max_manifest_file_size(16 << 20);
}
