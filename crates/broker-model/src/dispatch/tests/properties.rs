//! Random histories against a model of what clients see and what exists.
//!
//! Checked all along: a message is with one client at a time; nobody gets a message that was settled;
//! no more than its credit; first deliveries are in order per level; what was handed out before is
//! flagged; counts agree. At the end: everything that was not settled is still delivered, and the
//! replicated state is the same when the log is replayed, from its beginning or from a checkpoint.

mod step;
mod world;

use super::leader::*;
use crate::catalog::settings::QueueSettings;
use proptest::collection::vec;
use proptest::prelude::*;
use step::{Step, any_step};
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn histories_are_right(steps in vec(any_step(), 1..80), lag in any::<bool>()) {
        let mut world = World::new(lag);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }

    /// The same of queues without a log: parts of them are in the store, and nothing of it counts after a failure.
    #[test]
    fn histories_of_local_queues_are_right(steps in vec(any_step(), 1..80)) {
        let mut world = World::local();
        for step in steps {
            if !matches!(step, Step::FailOver { .. }) {
                world.step(step);
            }
        }
        world.finish();
    }

    /// A length limit holds whatever happens, and what it drops is dead-lettered, once.
    #[test]
    fn limits_hold(limit in 0u64..6, publishes in vec((1usize..8, 0u8..2, any::<bool>()), 1..20)) {
        let settings = QueueSettings {
            max_length: Some(limit),
            dead_letter_exchange: Some(std::sync::Arc::from("")),
            ..QueueSettings::default()
        };
        let mut leader = Leader::of(settings);
        let mut published = 0_u64;
        for (count, level, checkpoint) in publishes {
            let ops: Vec<_> = (0..count).map(|_| publish(QUEUE, level, None, "x")).collect();
            published += count as u64;
            leader.batch(node(9), &ops);
            prop_assert!(leader.counts().ready <= limit);
            if checkpoint {
                leader.checkpoint();
            }
        }
        let state = leader.machine.queue(QUEUE).unwrap();
        prop_assert_eq!(state.alive(), published.min(limit));
        prop_assert_eq!(state.dying(), published - state.alive());
    }

    /// Messages expire at their time, neither before nor after, wherever they stand.
    #[test]
    fn times_to_live_hold(ttls in vec((1u64..100, 0u8..2), 1..30), checkpoint_after in 0usize..30) {
        let mut leader = Leader::of(QueueSettings::default());
        for (at, (ttl_ms, level)) in ttls.iter().enumerate() {
            leader.batch(node(9), &[publish(QUEUE, *level, Some(*ttl_ms), "x")]);
            if at == checkpoint_after {
                leader.checkpoint();
            }
        }
        for now_ms in (1_000..1_100).step_by(7) {
            leader.at(now_ms);
            let expected = ttls.iter().filter(|(ttl_ms, _)| 1_000 + ttl_ms > now_ms).count();
            prop_assert_eq!(leader.counts().ready, expected as u64);
        }
    }
}
