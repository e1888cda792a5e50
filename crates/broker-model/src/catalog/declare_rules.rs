//! What an operator has set for declarations of queues: it goes into their arguments before they are replicated, so that
//! replicas need not know it.

use super::arguments::{self, Properties, QUEUE_TYPE, usual_type};
use super::record::QueueRecord;
use super::settings::QueueType;
use amqp_codec::{FieldTable, FieldValue, TableBuilder};

/// How declarations of queues are taken by a node. All nodes of a cluster should be told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeclareRules {
    /// Type of what names none, in virtual hosts that have no default of their own. Only for queues that are durable and
    /// neither exclusive nor auto-delete; others are classic. RabbitMQ's `default_queue_type`.
    pub default_queue_type: QueueType,
    /// A quorum queue may be declared again as a classic one: the type, and arguments that only classic queues have, are
    /// let pass. RabbitMQ's `quorum_queue.property_equivalence.relaxed_checks_on_redeclaration`.
    pub relaxed_redeclaration: bool,
}

impl DeclareRules {
    /// The arguments that a declaration is replicated with, where `of_vhost` is the default type of its virtual host and
    /// `existing` the queue that is there already.
    pub(super) fn apply(
        self,
        arguments: FieldTable,
        properties: Properties,
        of_vhost: Option<&str>,
        existing: Option<&QueueRecord>,
    ) -> FieldTable {
        let of_vhost = of_vhost.and_then(QueueType::parse);
        let usual = usual_type(properties, of_vhost.unwrap_or(self.default_queue_type));
        let named = arguments.get(QUEUE_TYPE);
        let asked = match &named {
            None => Some(usual),
            Some(value) => match value.as_text() {
                // Tools write that for whatever is usual.
                Some("" | "undefined") => Some(usual),
                // Refused later, if there is no such type.
                Some(name) => QueueType::parse(name),
                None => None,
            },
        };
        let Some(asked) = asked else { return arguments };
        let is_quorum = existing.is_some_and(|queue| queue.queue_type == QueueType::Quorum);
        if self.relaxed_redeclaration && is_quorum && asked == QueueType::Classic {
            let known = arguments::without_those_of_others(&arguments, QueueType::Quorum);
            return with_type(&known, QueueType::Quorum);
        }
        let is_clear = match named {
            // Replicas know the default of the virtual host, not the node's.
            None => of_vhost.is_some() || asked == QueueType::Classic,
            Some(value) => value.as_text() == Some(asked.as_str()),
        };
        if is_clear {
            arguments
        } else {
            with_type(&arguments, asked)
        }
    }
}

fn with_type(arguments: &FieldTable, queue_type: QueueType) -> FieldTable {
    TableBuilder::from_table(arguments)
        .set(QUEUE_TYPE, &FieldValue::text(queue_type.as_str()))
        .finish()
}
