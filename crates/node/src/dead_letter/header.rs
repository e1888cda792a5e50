//! What a message carries after its death: `x-death` and its relatives.
//!
//! Pure: the time comes in. Only what the broker itself has written is continued, which the properties of
//! a dead letter are marked for where they are kept. What a client published under these names was passed
//! on until now and goes: it could say that the message has been anywhere.
//!
//! A letter that was given a routing key of its own (`x-dead-letter-routing-key`) shows the `CC` of its publisher,
//! but no longer goes by it. That is told from where the header stands: behind `x-death`.

use amqp_codec::{FieldArray, FieldTable, FieldValue, PropertiesView, Rewrite, TableBuilder};
use broker_model::message::Message;
use broker_model::op::DeathReason;
use bytes::Bytes;

/// Deaths remembered on one message; the oldest are dropped beyond it.
const HISTORY_MAX: usize = 64;

/// Headers of more routing keys.
const CC: &str = "CC";
/// The same, told to nobody.
const BCC: &str = "BCC";

/// One death.
#[derive(Debug, Clone)]
pub(super) struct Death<'a> {
    /// Queue in which it died.
    pub queue: &'a str,
    /// Why.
    pub reason: DeathReason,
    /// Now, seconds since the Unix epoch.
    pub now_s: u64,
    /// `x-dead-letter-exchange`.
    pub exchange: &'a str,
    /// `x-dead-letter-routing-key`.
    pub routing_key: Option<&'a str>,
}

/// A dead message, ready to be published.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeadMessage {
    /// With new exchange, routing key and headers.
    pub message: Message,
    /// Keys to route by: the new one, or all of the message's own (CC and BCC included).
    pub routing_keys: Vec<String>,
    /// Its death history, newest first.
    history: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    queue: Bytes,
    reason: Bytes,
    table: FieldTable,
}

impl DeadMessage {
    /// Whether publishing to `queue` would close a cycle that nobody broke: the message died there
    /// before, and was not rejected by a client since. A history that is full of such deaths counts as
    /// one: what is not in it any more might be this queue.
    #[must_use]
    pub(super) fn is_cycle(&self, queue: &str) -> bool {
        let is_full = self.history.len() >= HISTORY_MAX;
        if is_full && self.history.iter().all(|entry| entry.reason != "rejected") {
            return true;
        }
        match self
            .history
            .iter()
            .position(|entry| entry.queue == queue.as_bytes())
        {
            Some(at) => self
                .history
                .iter()
                .take(at + 1)
                .all(|entry| entry.reason != "rejected"),
            None => false,
        }
    }
}

/// Makes the dead letter of `message`.
#[must_use]
pub(super) fn dead_letter(message: &Message, death: &Death<'_>) -> DeadMessage {
    let properties = PropertiesView::new(&message.properties);
    let headers = properties.headers().unwrap_or_else(FieldTable::empty);
    let expiration = properties.expiration().map(Bytes::copy_from_slice);
    let is_first = !properties.is_marked();
    let own_keys = keys_told(message, &headers, properties);
    let mut history = if is_first {
        Vec::new()
    } else {
        history_of(&headers)
    };
    let reason = death.reason.as_str();
    let known = history.iter().position(|entry| {
        entry.queue == death.queue.as_bytes() && entry.reason == reason.as_bytes()
    });
    let entry = match known {
        Some(at) => {
            let before = history.remove(at);
            let count = before
                .table
                .get("count")
                .and_then(|value| value.as_integer())
                .unwrap_or(0);
            let mut table = TableBuilder::from_table(&before.table);
            table.set("count", &FieldValue::I64(count.saturating_add(1)));
            Entry {
                table: table.finish(),
                ..before
            }
        }
        None => {
            let mut table = TableBuilder::new();
            table
                .push("count", &FieldValue::I64(1))
                .push("reason", &FieldValue::text(reason))
                .push("queue", &FieldValue::text(death.queue))
                .push("time", &FieldValue::Timestamp(death.now_s))
                .push("exchange", &FieldValue::LongStr(message.exchange.clone()))
                .push(
                    "routing-keys",
                    &FieldValue::Array(own_keys.iter().map(|key| FieldValue::text(key)).collect()),
                );
            if let Some(expiration) = &expiration {
                table.push(
                    "original-expiration",
                    &FieldValue::LongStr(expiration.clone()),
                );
            }
            Entry {
                queue: Bytes::copy_from_slice(death.queue.as_bytes()),
                reason: Bytes::from_static(reason.as_bytes()),
                table: table.finish(),
            }
        }
    };
    history.insert(0, entry);
    history.truncate(HISTORY_MAX);

    let mut removed = vec![
        "x-death",
        "x-last-death-reason",
        "x-last-death-queue",
        "x-last-death-exchange",
    ];
    if is_first {
        removed.extend([
            "x-first-death-reason",
            "x-first-death-queue",
            "x-first-death-exchange",
        ]);
    }
    let shown = (death.routing_key.is_some() || is_only_shown(&headers, properties))
        .then(|| headers.get(CC))
        .flatten();
    if shown.is_some() {
        removed.push(CC);
    }
    if death.routing_key.is_some() {
        removed.push(BCC);
    }
    let mut table = TableBuilder::from_table_without(&headers, &removed);
    let deaths: FieldArray = history
        .iter()
        .map(|entry| FieldValue::Table(entry.table.clone()))
        .collect();
    table.push("x-death", &FieldValue::Array(deaths));
    if let Some(copies) = shown {
        table.push(CC, &copies);
    }
    let exchange = FieldValue::LongStr(message.exchange.clone());
    if is_first {
        table
            .push("x-first-death-reason", &FieldValue::text(reason))
            .push("x-first-death-queue", &FieldValue::text(death.queue))
            .push("x-first-death-exchange", &exchange);
    }
    table
        .push("x-last-death-reason", &FieldValue::text(reason))
        .push("x-last-death-queue", &FieldValue::text(death.queue))
        .push("x-last-death-exchange", &exchange);

    let properties = Rewrite::new(&message.properties)
        .headers(Some(table.finish()))
        .expiration(None)
        .marked()
        .finish();
    let routing_key = match death.routing_key {
        Some(key) => Bytes::copy_from_slice(key.as_bytes()),
        None => message.routing_key.clone(),
    };
    let routing_keys = match death.routing_key {
        Some(key) => vec![key.to_owned()],
        // Nobody is told of these: neither in x-death nor when the letter is delivered.
        None => own_keys.into_iter().chain(copies(&headers, BCC)).collect(),
    };
    DeadMessage {
        message: Message {
            exchange: Bytes::copy_from_slice(death.exchange.as_bytes()),
            routing_key,
            properties,
            body: message.body.clone(),
        },
        routing_keys,
        history,
    }
}

/// All keys that a message goes by: its routing key, and those of `CC` and `BCC`.
pub(super) fn keys_of(message: &Message, headers: &FieldTable) -> Vec<String> {
    let mut keys = keys_told(message, headers, PropertiesView::new(&message.properties));
    keys.extend(copies(headers, BCC));
    keys
}

/// Those of them that are no secret.
fn keys_told(
    message: &Message,
    headers: &FieldTable,
    properties: PropertiesView<'_>,
) -> Vec<String> {
    let mut keys = vec![String::from_utf8_lossy(&message.routing_key).into_owned()];
    if !is_only_shown(headers, properties) {
        keys.extend(copies(headers, CC));
    }
    keys
}

/// Whether a message no longer goes by its `CC`, because a queue that it died in gave it a routing key.
fn is_only_shown(headers: &FieldTable, properties: PropertiesView<'_>) -> bool {
    let place = |name: &str| headers.iter().position(|entry| *entry.key() == *name);
    properties.is_marked() && place(CC) > place("x-death")
}

/// The keys of `CC` or `BCC`.
fn copies(headers: &FieldTable, name: &str) -> Vec<String> {
    let Some(FieldValue::Array(copies)) = headers.get(name) else {
        return Vec::new();
    };
    copies
        .iter()
        .filter_map(|copy| copy.as_text().map(str::to_owned))
        .filter(|key| key.len() <= 255)
        .collect()
}

fn history_of(headers: &FieldTable) -> Vec<Entry> {
    let Some(FieldValue::Array(deaths)) = headers.get("x-death") else {
        return Vec::new();
    };
    deaths
        .iter()
        .filter_map(|death| {
            let table = death.as_table()?.clone();
            let queue = table.get("queue")?.as_long_str()?.clone();
            let reason = table.get("reason")?.as_long_str()?.clone();
            Some(Entry {
                queue,
                reason,
                table,
            })
        })
        .take(HISTORY_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::Properties;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn message(headers: FieldTable, expiration: Option<&str>) -> Message {
        let empty = amqp_codec::NO_PROPERTIES;
        let properties = Rewrite::new(&empty)
            .headers(Some(headers))
            .expiration(expiration.map(|text| Bytes::copy_from_slice(text.as_bytes())))
            .finish();
        Message {
            exchange: Bytes::from_static(b"ex"),
            routing_key: Bytes::from_static(b"key"),
            properties,
            body: Bytes::from_static(b"body"),
        }
    }

    fn death(queue: &str, reason: DeathReason) -> Death<'_> {
        Death {
            queue,
            reason,
            now_s: 7,
            exchange: "dlx",
            routing_key: None,
        }
    }

    fn headers(message: &Message) -> FieldTable {
        PropertiesView::new(&message.properties)
            .headers()
            .unwrap_or_else(FieldTable::empty)
    }

    #[test]
    fn first_death() {
        let dead = dead_letter(
            &message(FieldTable::empty(), Some("100")),
            &death("q", DeathReason::Expired),
        );
        let headers = headers(&dead.message);
        let Some(FieldValue::Array(deaths)) = headers.get("x-death") else {
            panic!("no x-death")
        };
        let first = deaths
            .iter()
            .next()
            .and_then(|d| d.as_table().cloned())
            .expect("one death");
        let names: Vec<String> = first
            .iter()
            .map(|entry| entry.key().as_str().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "count",
                "reason",
                "queue",
                "time",
                "exchange",
                "routing-keys",
                "original-expiration"
            ]
        );
        assert_eq!(first.get("count"), Some(FieldValue::I64(1)));
        assert_eq!(
            headers.get("x-first-death-queue"),
            Some(FieldValue::text("q"))
        );
        assert_eq!(
            headers.get("x-last-death-reason"),
            Some(FieldValue::text("expired"))
        );
        assert_eq!(
            PropertiesView::new(&dead.message.properties).expiration(),
            None
        );
        assert_eq!(dead.message.exchange, "dlx");
        assert_eq!(dead.routing_keys, ["key"]);
        assert!(Properties::decode(&dead.message.properties).is_ok());
    }

    #[test]
    fn repeated_death_counts_and_moves_to_the_front() {
        let once = dead_letter(
            &message(FieldTable::empty(), None),
            &death("a", DeathReason::Rejected),
        );
        let twice = dead_letter(&once.message, &death("b", DeathReason::Expired));
        let thrice = dead_letter(&twice.message, &death("a", DeathReason::Rejected));
        let queues: Vec<&[u8]> = thrice.history.iter().map(|entry| &*entry.queue).collect();
        assert_eq!(queues, [b"a".as_slice(), b"b".as_slice()]);
        let count = thrice
            .history
            .first()
            .and_then(|entry| entry.table.get("count"));
        assert_eq!(count, Some(FieldValue::I64(2)));
        let headers = headers(&thrice.message);
        assert_eq!(
            headers.get("x-first-death-queue"),
            Some(FieldValue::text("a"))
        );
        assert_eq!(
            headers.get("x-first-death-reason"),
            Some(FieldValue::text("rejected"))
        );
    }

    #[test]
    fn only_cycles_without_a_rejection_are_cycles() {
        let expired = dead_letter(
            &message(FieldTable::empty(), None),
            &death("a", DeathReason::Expired),
        );
        assert!(expired.is_cycle("a"));
        assert!(!expired.is_cycle("b"));
        let rejected = dead_letter(&expired.message, &death("b", DeathReason::Rejected));
        assert!(!rejected.is_cycle("a"));
        assert!(!rejected.is_cycle("b"));
    }

    /// It says that it died in queue `b`, was there first, and came back often.
    #[test]
    fn what_a_client_says_of_deaths_is_not_believed() {
        let entry = TableBuilder::new()
            .push("count", &FieldValue::I64(7))
            .push("reason", &FieldValue::text("expired"))
            .push("queue", &FieldValue::text("b"))
            .finish();
        let deaths = [FieldValue::Table(entry)].into_iter().collect();
        let told = TableBuilder::new()
            .push("x-first-death-queue", &FieldValue::text("b"))
            .push("x-first-death-reason", &FieldValue::text("expired"))
            .push("x-death", &FieldValue::Array(deaths))
            .push("own", &FieldValue::Bool(true))
            .finish();
        let dead = dead_letter(&message(told, None), &death("a", DeathReason::Expired));
        assert!(!dead.is_cycle("b"));
        assert_eq!(dead.history.len(), 1);
        let found = headers(&dead.message);
        assert_eq!(
            found.get("x-first-death-queue"),
            Some(FieldValue::text("a"))
        );
        assert_eq!(found.get("own"), Some(FieldValue::Bool(true)));
        assert_eq!(found.iter().count(), 8);
        // The client gets it and sends it again, as it came: it has never died.
        let again = Message {
            properties: Properties::decode(&dead.message.properties)
                .unwrap()
                .encode(),
            ..dead.message.clone()
        };
        let counted = dead_letter(&dead.message, &death("a", DeathReason::Expired));
        let anew = dead_letter(&again, &death("a", DeathReason::Expired));
        let count = |dead: &DeadMessage| dead.history[0].table.get("count");
        assert_eq!(count(&counted), Some(FieldValue::I64(2)));
        assert_eq!(count(&anew), Some(FieldValue::I64(1)));
    }

    /// Expired in one queue after the other: at the latest when it has been everywhere it goes no further.
    #[test]
    fn a_ring_of_queues_ends() {
        for queues in [1, 2, 3, HISTORY_MAX, HISTORY_MAX + 1, 3 * HISTORY_MAX] {
            let mut letter = message(FieldTable::empty(), None);
            let mut hops = 0;
            loop {
                let (here, next) = (format!("q{}", hops % queues), (hops + 1) % queues);
                let dead = dead_letter(&letter, &death(&here, DeathReason::Expired));
                hops += 1;
                if dead.is_cycle(&format!("q{next}")) {
                    break;
                }
                letter = dead.message;
                assert!(hops <= queues, "{queues} queues: it goes round");
            }
            assert_eq!(hops, queues.min(HISTORY_MAX));
        }
    }

    proptest! {
        /// Whatever a message has gone through: its history against a plain list of its deaths.
        #[test]
        fn histories_of_deaths(deaths in vec((0_usize..5, 0_usize..4), 1..40)) {
            const QUEUES: [&str; 5] = ["a", "b", "c", "d", "e"];
            const REASONS: [DeathReason; 4] =
                [DeathReason::Rejected, DeathReason::Expired, DeathReason::MaxLength, DeathReason::DeliveryLimit];
            let mut letter = message(FieldTable::empty(), Some("7"));
            let mut so_far: Vec<(&str, DeathReason)> = Vec::new();
            for (queue, reason) in deaths {
                let (queue, reason) = (QUEUES[queue], REASONS[reason]);
                let dead = dead_letter(&letter, &death(queue, reason));
                so_far.push((queue, reason));

                // Newest first, one entry for each queue and reason, with the number of times.
                let mut expected: Vec<(&str, &str, i64)> = Vec::new();
                for (queue, reason) in so_far.iter().rev() {
                    let reason = reason.as_str();
                    match expected.iter_mut().find(|entry| (entry.0, entry.1) == (queue, reason)) {
                        Some(entry) => entry.2 += 1,
                        None => expected.push((queue, reason, 1)),
                    }
                }
                let found = headers(&dead.message);
                let Some(FieldValue::Array(found_deaths)) = found.get("x-death") else {
                    panic!("no x-death");
                };
                let found_deaths: Vec<(String, String, i64)> = found_deaths
                    .iter()
                    .map(|entry| {
                        let table = entry.as_table().cloned().expect("a table");
                        let text = |key| table.get(key).and_then(|v| v.as_text().map(str::to_owned));
                        let count = table.get("count").and_then(|v| v.as_integer());
                        (text("queue").unwrap(), text("reason").unwrap(), count.unwrap())
                    })
                    .collect();
                let expected: Vec<_> = expected
                    .into_iter()
                    .map(|(queue, reason, count)| (queue.to_owned(), reason.to_owned(), count))
                    .collect();
                prop_assert_eq!(found_deaths, expected);
                let first = so_far.first().map(|(queue, _)| FieldValue::text(queue));
                prop_assert_eq!(found.get("x-first-death-queue"), first);
                prop_assert_eq!(found.get("x-last-death-queue"), Some(FieldValue::text(queue)));

                // A cycle: it died there, and nobody has rejected it since its last death there, that one included.
                for target in QUEUES {
                    let since = so_far.iter().rposition(|(queue, _)| *queue == target);
                    let is_cycle = since.is_some_and(|at| {
                        so_far[at..].iter().all(|(_, reason)| *reason != DeathReason::Rejected)
                    });
                    prop_assert_eq!(dead.is_cycle(target), is_cycle, "{} after {:?}", target, &so_far);
                }
                letter = dead.message;
            }
        }
    }

    #[test]
    fn an_explicit_key_ends_the_copies() {
        let mut table = TableBuilder::new();
        table.push(
            "CC",
            &FieldValue::Array([FieldValue::text("other")].into_iter().collect()),
        );
        table.push(
            "BCC",
            &FieldValue::Array([FieldValue::text("blind")].into_iter().collect()),
        );
        let original = message(table.finish(), None);
        let own = dead_letter(&original, &death("a", DeathReason::Expired));
        assert_eq!(own.routing_keys, ["key", "other", "blind"]);
        let Some(FieldValue::Array(deaths)) = headers(&own.message).get("x-death") else {
            panic!("no x-death")
        };
        let first = deaths
            .iter()
            .next()
            .and_then(|entry| entry.as_table().cloned());
        let keys = ["key", "other"].map(FieldValue::text);
        assert_eq!(
            first.unwrap().get("routing-keys"),
            Some(FieldValue::Array(keys.iter().cloned().collect()))
        );
        let given = Death {
            routing_key: Some("dead"),
            ..death("a", DeathReason::Expired)
        };
        let explicit = dead_letter(&original, &given);
        assert_eq!(explicit.routing_keys, ["dead"]);
        assert_eq!(explicit.message.routing_key, "dead");
        assert_eq!(headers(&explicit.message).get("BCC"), None);
        // The copies are shown to who gets the letter, and to nobody else: whatever becomes of it.
        let again = dead_letter(&explicit.message, &death("b", DeathReason::Rejected));
        let last = dead_letter(&again.message, &death("c", DeathReason::Rejected));
        for letter in [&explicit, &again, &last] {
            let headers = headers(&letter.message);
            let shown = FieldValue::Array([FieldValue::text("other")].into_iter().collect());
            assert_eq!(headers.get("CC"), Some(shown));
            assert_eq!(letter.routing_keys, ["dead"]);
            assert_eq!(keys_of(&letter.message, &headers), ["dead"]);
            let Some(FieldValue::Array(deaths)) = headers.get("x-death") else {
                panic!("no x-death")
            };
            let keys = |entry: FieldValue| entry.as_table()?.get("routing-keys");
            let newest = deaths.iter().next().and_then(keys);
            let died_with: &[&str] = if letter == &explicit {
                &["key", "other"]
            } else {
                &["dead"]
            };
            let died_with = died_with.iter().map(|key| FieldValue::text(key)).collect();
            assert_eq!(newest, Some(FieldValue::Array(died_with)));
        }
        // A client that gets it and sends it again means its CC.
        let sent = Message {
            properties: Properties::decode(&explicit.message.properties)
                .unwrap()
                .encode(),
            ..explicit.message
        };
        assert_eq!(keys_of(&sent, &headers(&sent)), ["dead", "other"]);
    }

    /// How often a delivery failed is told with deliveries of the queue where it did, not by its dead letters.
    #[test]
    fn what_a_client_says_of_failed_deliveries_stays() {
        for told in [None, Some(FieldValue::I64(7))] {
            let mut table = TableBuilder::new();
            if let Some(told) = &told {
                table.push("x-delivery-count", told);
            }
            let dead = dead_letter(
                &message(table.finish(), None),
                &death("a", DeathReason::DeliveryLimit),
            );
            assert_eq!(headers(&dead.message).get("x-delivery-count"), told);
        }
    }
}
