//! What has to be true all along, and at the end.

use super::super::super::leader::*;
use super::super::step::Step;
use super::{DEAD, NODES, Place, QUEUES, World};
use crate::ids::{Origin, QueueId, Sequence};
use crate::op::Op;
use crate::protocol::Delivery;
use crate::shard::{MessageKey, ShardMachine};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn receive(&mut self, origin: Origin, delivery: Delivery, no_ack: bool) {
        let place = (delivery.queue, delivery.sequence);
        assert!(self.alive.contains(&place), "{place:?} is settled");
        assert_eq!(text(&delivery.message.body), self.bodies[&place]);
        if !self.out_before.insert(place) {
            assert!(delivery.redelivered, "{place:?} was out before");
        } else if !self.late.contains(&place) {
            let level = (place.0, place.1.level());
            let last = self.last_first.get(&level).copied().unwrap_or(0);
            assert!(last < place.1.number(), "{place:?} goes out after {last}");
            // Each consumer hears in order; between nodes there is no order within a call.
            let heard = self.heard.entry((delivery.consumer, level)).or_default();
            assert!(
                *heard < place.1.number(),
                "{place:?} goes to one consumer after {heard}"
            );
            *heard = place.1.number();
        }
        if no_ack {
            self.alive.remove(&place);
            self.ending.insert(place);
        } else {
            let before = self.held.insert(place, (origin, delivery.consumer));
            assert_eq!(before, None, "{place:?} is with two");
        }
    }

    pub(super) fn check(&self) {
        if !self.leader.on_the_way.is_empty() {
            return;
        }
        for queue in QUEUES {
            let counts = self
                .leader
                .dispatcher
                .queue_counts(&self.leader.machine, queue);
            let alive: BTreeSet<Place> = self
                .alive
                .iter()
                .filter(|place| place.0 == queue)
                .copied()
                .collect();
            let held = self.held.keys().filter(|place| place.0 == queue).count() as u64;
            assert_eq!(counts.unacked, held, "held of {queue:?}");
            assert_eq!(
                counts.ready + counts.delayed,
                alive.len() as u64 - held,
                "ready of {queue:?}"
            );
            assert_eq!(counts.ready_bytes, counts.ready * 20);
            assert_eq!(counts.delayed_bytes, counts.delayed * 20);
            assert_eq!(alive_of(&self.leader.machine, queue), alive);
        }
    }

    /// Whatever is left is delivered, and the replicated state can be had again.
    pub(in super::super) fn finish(mut self) {
        self.leader.lag = false;
        self.step(Step::Arrive);
        self.step(Step::EndCheckpoint);
        let mut restored = self.leader.store.restore();
        if self.spills.is_none() {
            let live = records(&self.leader.machine);
            let mut replayed = ShardMachine::new();
            replay(&mut replayed, &self.leader.log);
            assert_eq!(records(&replayed), live, "replay of the whole log");
            replay(&mut restored, &self.leader.log);
            assert_eq!(records(&restored), live, "replay from the checkpoint");
        }
        let machine = match self.spills {
            None => &restored,
            Some(_) => &self.leader.machine,
        };
        for place in self.alive.iter().chain(&self.dying) {
            let key = MessageKey {
                queue: place.0,
                level: place.1.level(),
                sequence: place.1,
            };
            let in_memory = machine.queue(place.0).unwrap().in_memory(place.1);
            let stored = self.leader.store.messages.get(&key);
            assert!(
                in_memory.is_some() != stored.is_some(),
                "{place:?} is in one place"
            );
            let found = in_memory.or(stored).unwrap();
            assert_eq!(text(&found.message.body), self.bodies[place]);
        }

        for node in 1..=NODES {
            self.step(Step::NodeLost { node });
        }
        for queue in 0..QUEUES.len() {
            self.step(Step::Consume {
                node: 1,
                queue,
                credit: 10_000,
                no_ack: false,
                priority: 0,
            });
        }
        self.step(Step::Wait { ms: 1_000 });
        let held: BTreeSet<Place> = self.held.keys().copied().collect();
        assert_eq!(held, self.alive, "what exists is delivered");
        self.step(Step::Settle {
            node: 1,
            mask: u64::MAX,
        });
        while !self.leader.dead_letters.is_empty() {
            self.step(Step::SettleDead);
        }
        assert_eq!(self.dying, BTreeSet::new(), "what died is dead-lettered");
        self.leader.batch(node(8), &[Op::Delete { queue: DEAD }]);
        assert!(
            self.leader
                .machine
                .queues()
                .all(|(_, state)| state.alive() + state.dying() == 0)
        );
        let delta = self.begin_checkpoint();
        self.leader.store.write(&mut self.leader.machine, delta);
        assert!(
            self.leader.store.messages.is_empty(),
            "nothing dead stays in the store"
        );
        assert_eq!(self.leader.machine.tail_bytes(), 0);
    }
}

fn alive_of(machine: &ShardMachine, queue: QueueId) -> BTreeSet<Place> {
    let Some(state) = machine.queue(queue) else {
        return BTreeSet::new();
    };
    let mut alive = BTreeSet::new();
    for level in state.levels() {
        let mut at = 0;
        while let Some((from, to)) = state.alive_from(level, at) {
            alive.extend((from..=to).map(|number| (queue, Sequence::new(level, number))));
            at = to + 1;
        }
    }
    alive
}

fn records(machine: &ShardMachine) -> BTreeMap<QueueId, bytes::Bytes> {
    machine
        .queues()
        .map(|(queue, state)| (queue, state.encode_record()))
        .collect()
}

fn replay(machine: &mut ShardMachine, log: &[Vec<bytes::Bytes>]) {
    for (index, segments) in log.iter().enumerate() {
        machine
            .apply_entry(index as u64 + 1, segments, &mut Vec::new(), &mut Vec::new())
            .unwrap();
    }
}
