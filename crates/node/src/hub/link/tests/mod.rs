mod no_leader;
mod resume;
mod trouble;
mod unsure;

use broker_model::ids::QueueId;
use broker_model::message::Message;
use broker_model::op::{Op, Target};
use bytes::Bytes;
use smallvec::smallvec;

pub(super) fn publish(bytes: usize) -> Op {
    Op::Publish {
        targets: smallvec![Target {
            queue: QueueId(1),
            level: 0,
            ttl_ms: None,
            identities: Box::default(),
        }],
        message: Message {
            exchange: Bytes::new(),
            routing_key: Bytes::new(),
            properties: Bytes::new(),
            body: Bytes::from(vec![0; bytes]),
        },
    }
}
