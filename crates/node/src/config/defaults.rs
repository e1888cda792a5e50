//! What a node does where nothing else is said.

use super::{
    AuthBackends, Config, DeclareRules, DefaultUser, Limits, Memory, NodeId, Sharding, Storage,
    Timing,
};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const MIB: usize = 1024 * 1024;

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            node_id: NodeId(1),
            data_dir: PathBuf::from("./data"),
            amqp_listen: any(5672),
            amqps: None,
            cluster_listen: any(25672),
            cluster_advertise: None,
            peers: Vec::new(),
            join: None,
            cluster_secret: None,
            cluster_tls: None,
            management_listen: any(15672),
            management_api: true,
            management_tls_listen: None,
            prometheus_listen: None,
            cluster_name: "warren".into(),
            product: "RabbitMQ".into(),
            product_version: "4.3.5".into(),
            default_user: DefaultUser::default(),
            loopback_users: vec!["guest".into()],
            auth: AuthBackends::default(),
            proxy_protocol: false,
            sharding: Sharding::default(),
            timing: Timing::default(),
            limits: Limits::default(),
            declarations: DeclareRules::default(),
            memory: Memory::default(),
            storage: Storage::default(),
        }
    }
}

impl Default for DefaultUser {
    fn default() -> Self {
        Self {
            name: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
        }
    }
}

impl Default for Sharding {
    fn default() -> Self {
        Self { shards: 8 }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            publish_timeout: Duration::from_secs(30),
            amqp_heartbeat: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(10),
            login_failure_delay: Duration::from_secs(3),
            consumer_timeout: None,
            raft_heartbeat: Duration::from_millis(200),
            raft_election_min: Duration::from_millis(350),
            raft_election_max: Duration::from_millis(650),
            hand_over_timeout: Duration::from_millis(500),
            shutdown_timeout: Duration::from_secs(9),
            rebalance_interval: Duration::from_secs(5),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            channels: None,
            channels_per_connection: 2047,
            frame_max: 131_072,
            message_size: 16 * MIB as u64,
            consumers_per_channel: None,
            queues: None,
            connection_unconfirmed_bytes: 16 * MIB,
            connection_output_bytes: 2 * MIB,
            delivery_limit: None,
            delivery_limit_counts_nacks: false,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            total_bytes: None,
            high_watermark: 0.6,
            block_cache_bytes: 64 * MIB,
            local_queues_bytes: 64 * MIB,
            dead_letters_bytes: 64 * MIB,
            large_messages_bytes: 1 << 30,
        }
    }
}

/// Memory for which the defaults are made; they shrink below it.
const ENOUGH: u64 = 1 << 30;
/// They do not shrink below this share of themselves.
const LEAST: u64 = 16;

/// Of large messages at least so many bytes: the largest of the usual size fit.
const LARGE_LEAST: u64 = 32 << 20;

impl Memory {
    /// Bytes that this process may use.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total_bytes
            .unwrap_or_else(crate::life::process::memory_limit)
    }
}

impl Config {
    /// Shrinks what takes memory for a process that may use only so much. A container of 128 MiB was killed by a backlog
    /// that waited for the checkpoint after 128 MiB of log.
    pub fn fit_into(&mut self, memory_bytes: u64) {
        let shrunk = |size: u64| {
            let share = u128::from(size) * u128::from(memory_bytes) / u128::from(ENOUGH);
            u64::try_from(share)
                .unwrap_or(size)
                .clamp(size / LEAST, size)
        };
        let in_memory = |size: usize| shrunk(size as u64) as usize;
        let (memory, storage) = (&mut self.memory, &mut self.storage);
        memory.block_cache_bytes = in_memory(memory.block_cache_bytes);
        memory.local_queues_bytes = in_memory(memory.local_queues_bytes);
        memory.large_messages_bytes = (memory_bytes / 8).max(LARGE_LEAST);
        memory.dead_letters_bytes = in_memory(memory.dead_letters_bytes);
        storage.checkpoint_bytes = shrunk(storage.checkpoint_bytes);
        storage.state_write_buffer_bytes = in_memory(storage.state_write_buffer_bytes);
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            checkpoint_bytes: 128 * MIB as u64,
            checkpoint_interval: Duration::from_secs(60),
            log_keep_bytes: 256 * MIB as u64,
            log_segment_bytes: 32 * MIB as u64,
            state_write_buffer_bytes: 32 * MIB,
            disk_free_limit_bytes: 200_000_000,
            disk_reserve_bytes: 100_000_000,
            entry_bytes_max: MIB,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_is_shared_out() {
        for (memory_mib, expected_mib) in [
            (16 << 10, (64, 64, 128, 32)),
            (1024, (64, 64, 128, 32)),
            (256, (16, 16, 32, 8)),
            (128, (8, 8, 16, 4)),
            (1, (4, 4, 8, 2)),
        ] {
            let mut config = Config::default();
            config.fit_into(memory_mib << 20);
            let (memory, storage) = (config.memory, config.storage);
            let found = (
                memory.block_cache_bytes / MIB,
                memory.local_queues_bytes / MIB,
                storage.checkpoint_bytes as usize / MIB,
                storage.state_write_buffer_bytes / MIB,
            );
            assert_eq!(found, expected_mib, "{memory_mib} MiB");
        }
    }
}
