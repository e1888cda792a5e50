//! Conversations with a session on a node of one process: real links, real queues, no network, no log.
//!
//! Every test that is about queues runs for one behind an encoding link (as durable queues have it)
//! and for one in the node's memory.

mod access;
mod client;
mod confirms;
mod consumers;
mod credit;
mod cut_off;
mod errors;
mod failover;
mod host;
mod lifecycle;
mod moved;
mod node;
mod overdue;
mod replies;
mod streams;
mod tokens;
mod transactions;

use client::Client;
use node::TestNode;

/// Runs a test for both kinds of queue.
macro_rules! both {
    ($name:ident, $durable:ident, $node:ident, $body:block) => {
        #[tokio::test]
        async fn $name() {
            for $durable in [true, false] {
                let $node = super::TestNode::start();
                $body
            }
        }
    };
}

pub(crate) use both;
