//! The catalog against a naive model: lists that are searched from end to end.

use super::*;
use crate::routing::RouteInput;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// What is done, by small numbers that become names.
#[derive(Debug, Clone)]
enum Step {
    DeclareQueue(u8),
    DeleteQueue(u8),
    DeclareExchange {
        exchange: u8,
        kind: u8,
        auto_delete: bool,
    },
    DeleteExchange(u8),
    Bind {
        source: u8,
        to: u8,
        to_exchange: bool,
        key: u8,
        arguments: u8,
    },
    Unbind {
        source: u8,
        to: u8,
        to_exchange: bool,
        key: u8,
        arguments: u8,
    },
}

const KEYS: [&str; 6] = ["", "a", "a.b", "a.*", "#", "a.#.b"];
const KINDS: [&str; 4] = ["direct", "fanout", "topic", "headers"];

fn arguments(number: u8) -> FieldTable {
    match number {
        0 => FieldTable::empty(),
        1 => table(&[("h", FieldValue::I32(1))]),
        2 => table(&[
            ("x-match", FieldValue::text("any")),
            ("h", FieldValue::I32(1)),
            ("i", FieldValue::Void),
        ]),
        _ => table(&[("h", FieldValue::I32(1)), ("i", FieldValue::text("x"))]),
    }
}

fn step() -> impl Strategy<Value = Step> {
    let binding = || (0..4u8, 0..4u8, prop::bool::weighted(0.3), 0..6u8, 0..4u8);
    prop_oneof![
        3 => (0..4u8).prop_map(Step::DeclareQueue),
        1 => (0..4u8).prop_map(Step::DeleteQueue),
        3 => (0..4u8, 0..4u8, any::<bool>()).prop_map(|(exchange, kind, auto_delete)| {
            Step::DeclareExchange { exchange, kind, auto_delete }
        }),
        1 => (0..4u8).prop_map(Step::DeleteExchange),
        8 => binding().prop_map(|(source, to, to_exchange, key, arguments)| {
            Step::Bind { source, to, to_exchange, key, arguments }
        }),
        3 => binding().prop_map(|(source, to, to_exchange, key, arguments)| {
            Step::Unbind { source, to, to_exchange, key, arguments }
        }),
    ]
}

/// Everything as plain lists.
#[derive(Default)]
struct Naive {
    queues: BTreeSet<u8>,
    /// Exchange, kind, auto-delete.
    exchanges: Vec<(u8, u8, bool)>,
    /// Source, destination, whether that is an exchange, key, arguments.
    bindings: BTreeSet<(u8, u8, bool, u8, u8)>,
}

impl Naive {
    fn has(&self, exchange: u8) -> bool {
        self.exchanges.iter().any(|(name, ..)| *name == exchange)
    }

    /// Removes bindings, then exchanges that have lost their last one, and so on.
    fn remove_bindings(&mut self, matching: impl Fn(&(u8, u8, bool, u8, u8)) -> bool) {
        let gone: Vec<_> = self
            .bindings
            .iter()
            .copied()
            .filter(|b| matching(b))
            .collect();
        for binding in &gone {
            self.bindings.remove(binding);
        }
        for (source, ..) in gone {
            let auto = self
                .exchanges
                .iter()
                .any(|(name, _, auto)| *name == source && *auto);
            if auto && !self.bindings.iter().any(|b| b.0 == source) {
                self.delete_exchange(source);
            }
        }
    }

    fn delete_exchange(&mut self, exchange: u8) {
        self.exchanges.retain(|(name, ..)| *name != exchange);
        self.bindings.retain(|b| b.0 != exchange);
        self.remove_bindings(|b| b.2 && b.1 == exchange);
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::DeclareQueue(queue) => {
                self.queues.insert(queue);
            }
            Step::DeleteQueue(queue) => {
                self.queues.remove(&queue);
                self.remove_bindings(|b| !b.2 && b.1 == queue);
            }
            Step::DeclareExchange {
                exchange,
                kind,
                auto_delete,
            } => {
                if !self.has(exchange) {
                    self.exchanges.push((exchange, kind, auto_delete));
                }
            }
            Step::DeleteExchange(exchange) => {
                if self.has(exchange) {
                    self.delete_exchange(exchange);
                }
            }
            Step::Bind {
                source,
                to,
                to_exchange,
                key,
                arguments,
            } => {
                let exists = if to_exchange {
                    self.has(to)
                } else {
                    self.queues.contains(&to)
                };
                if self.has(source) && exists {
                    self.bindings
                        .insert((source, to, to_exchange, key, arguments));
                }
            }
            Step::Unbind {
                source,
                to,
                to_exchange,
                key,
                arguments,
            } => {
                self.remove_bindings(|b| *b == (source, to, to_exchange, key, arguments));
            }
        }
    }

    fn route(&self, first: u8, key: &str, headers: u8) -> BTreeSet<u8> {
        let mut queues = BTreeSet::new();
        let (mut ahead, mut visited) = (vec![first], BTreeSet::from([first]));
        while let Some(exchange) = ahead.pop() {
            let Some((_, kind, _)) = self.exchanges.iter().find(|(name, ..)| *name == exchange)
            else {
                continue;
            };
            for binding in self.bindings.iter().filter(|b| b.0 == exchange) {
                let pattern = KEYS[usize::from(binding.3)];
                let matches = match kind {
                    0 => pattern == key,
                    1 => true,
                    2 => words_match(&words(pattern), &words(key)),
                    _ => headers_match(binding.4, headers),
                };
                match (matches, binding.2) {
                    (true, true) => {
                        if visited.insert(binding.1) {
                            ahead.push(binding.1);
                        }
                    }
                    (true, false) => {
                        queues.insert(binding.1);
                    }
                    (false, _) => {}
                }
            }
        }
        queues
    }
}

fn words(text: &str) -> Vec<&str> {
    if text.is_empty() {
        Vec::new()
    } else {
        text.split('.').collect()
    }
}

fn words_match(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => {
            words_match(rest, key)
                || key
                    .split_first()
                    .is_some_and(|(_, k)| words_match(pattern, k))
        }
        (Some((word, rest)), Some((first, key))) => {
            (*word == "*" || word == first) && words_match(rest, key)
        }
        _ => false,
    }
}

/// Messages carry the headers of [`arguments`] by the same numbers.
fn headers_match(binding: u8, message: u8) -> bool {
    match binding {
        0 => true,
        1 => message >= 1,
        2 => message >= 1,
        _ => message == 3,
    }
}

fn command(step: &Step) -> CatalogCommand {
    let (queue_name, exchange_name) = (|n: u8| format!("q{n}"), |n: u8| format!("e{n}"));
    let spec = |source: u8, to: u8, to_exchange: bool, key: u8, number: u8| BindingSpec {
        vhost: "/".into(),
        source: exchange_name(source).into(),
        destination: if to_exchange {
            Destination::Exchange(exchange_name(to).into())
        } else {
            Destination::Queue(queue_name(to).into())
        },
        routing_key: KEYS[usize::from(key)].into(),
        arguments: arguments(number),
    };
    match *step {
        Step::DeclareQueue(number) => CatalogCommand::DeclareQueue(queue(&queue_name(number))),
        Step::DeleteQueue(number) => CatalogCommand::DeleteQueue {
            vhost: "/".into(),
            name: queue_name(number).into(),
            expected: None,
        },
        Step::DeclareExchange {
            exchange: number,
            kind,
            auto_delete,
        } => {
            let base = exchange(&exchange_name(number), KINDS[usize::from(kind)]);
            CatalogCommand::DeclareExchange(ExchangeSpec {
                auto_delete,
                ..base
            })
        }
        Step::DeleteExchange(number) => CatalogCommand::DeleteExchange {
            vhost: "/".into(),
            name: exchange_name(number).into(),
            if_unused: false,
        },
        Step::Bind {
            source,
            to,
            to_exchange,
            key,
            arguments,
        } => CatalogCommand::Bind(spec(source, to, to_exchange, key, arguments)),
        Step::Unbind {
            source,
            to,
            to_exchange,
            key,
            arguments,
        } => CatalogCommand::Unbind(spec(source, to, to_exchange, key, arguments)),
    }
}

/// Names and bindings of a catalog, sorted.
fn contents(catalog: &Catalog) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<String>) {
    let queues = catalog.queues("/").map(|q| q.name.to_string()).collect();
    let exchanges = catalog
        .exchanges("/")
        .map(|e| e.name.to_string())
        .filter(|name| name.starts_with('e'))
        .collect();
    let bindings = catalog
        .bindings("/")
        .filter(|b| !b.source.is_empty())
        .map(|b| {
            format!(
                "{} {:?} {} {:?}",
                b.source, b.destination, b.routing_key, b.arguments
            )
        })
        .collect();
    (queues, exchanges, bindings)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Existence, bindings from both sides, and routes agree with the model after every step.
    #[test]
    fn bookkeeping_and_routes(steps in vec(step(), 0..60)) {
        let (mut driver, mut naive) = (Driver::new(), Naive::default());
        for step in &steps {
            let _ = driver.apply(command(step));
            naive.apply(step);
        }
        let (queues, exchanges, bindings) = contents(&driver.catalog);
        prop_assert_eq!(queues, naive.queues.iter().map(|n| format!("q{n}")).collect());
        prop_assert_eq!(
            exchanges, naive.exchanges.iter().map(|(n, ..)| format!("e{n}")).collect()
        );
        prop_assert_eq!(bindings.len(), naive.bindings.len());
        for (queue, exchange) in (0..4u8).flat_map(|n| [(Some(n), None), (None, Some(n))]) {
            let (destination, number, is_exchange) = match (queue, exchange) {
                (Some(n), _) => (Destination::Queue(format!("q{n}").into()), n, false),
                (_, n) => {
                    let n = n.unwrap_or_default();
                    (Destination::Exchange(format!("e{n}").into()), n, true)
                }
            };
            let found = driver.catalog.bindings_to("/", &destination)
                .filter(|b| !b.source.is_empty()).count();
            let expected =
                naive.bindings.iter().filter(|b| b.1 == number && b.2 == is_exchange).count();
            prop_assert_eq!(found, expected);
        }
        for (exchange, ..) in &naive.exchanges {
            for key in ["", "a", "b", "a.b", "a.c.b"] {
                for headers in 0..4u8 {
                    let message = arguments(headers);
                    let input = RouteInput { routing_key: key, more_keys: &[], properties: &message, random: 0, is_here: &|_| true };
                    let found: BTreeSet<_> =
                        driver.route_with(&format!("e{exchange}"), &input).into_iter().collect();
                    let expected: BTreeSet<_> = naive.route(*exchange, key, headers)
                        .iter().map(|n| format!("q{n}")).collect();
                    prop_assert_eq!(found, expected, "{} {:?} {}", exchange, key, headers);
                }
            }
        }
    }

    /// Replaying everything equals a snapshot at any point and replaying the rest.
    #[test]
    fn snapshot_and_replay(steps in vec(step(), 0..60), at in 0..60usize) {
        let mut whole = Driver::new();
        for step in &steps {
            let _ = whole.apply(command(step));
        }
        let mut parts = Driver::new();
        let (before, after) = steps.split_at(at.min(steps.len()));
        for step in before {
            let _ = parts.apply(command(step));
        }
        let chunks = parts.catalog.encode_snapshot();
        parts.catalog = Catalog::decode_snapshot(&chunks).expect("a snapshot");
        prop_assert_eq!(parts.catalog.encode_snapshot(), chunks);
        for step in after {
            let _ = parts.apply(command(step));
        }
        prop_assert_eq!(parts.catalog.encode_snapshot(), whole.catalog.encode_snapshot());
        prop_assert_eq!(contents(&parts.catalog), contents(&whole.catalog));
    }

    /// No bytes make decoding fail other than by an error.
    #[test]
    fn decoding_anything(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = bytes::Bytes::from(bytes);
        let _ = CatalogEntry::decode(bytes.clone());
        let _ = decode_replies(bytes.clone());
        let _ = Catalog::decode_snapshot(&[bytes]);
    }
}
