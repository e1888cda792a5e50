//! Exchanges that do more than match: arguments, stores, where messages go.

use super::*;
use crate::routing::RouteInput;

fn spec(name: &str, kind: &str, arguments: &[(&str, FieldValue)]) -> ExchangeSpec {
    ExchangeSpec {
        arguments: table(arguments),
        ..exchange(name, kind)
    }
}

fn text(text: &str) -> FieldValue {
    FieldValue::text(text)
}

const fn int(number: i64) -> FieldValue {
    FieldValue::I64(number)
}

#[test]
fn arguments() {
    const TYPE: &str = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type";
    for (kind, arguments, refusal) in [
        (
            "x-delayed-message",
            vec![("x-delayed-type", text("topic"))],
            None,
        ),
        (
            "x-delayed-message",
            vec![("x-delayed-type", text("x-random"))],
            None,
        ),
        ("x-delayed-message", vec![], Some(TYPE)),
        (
            "x-delayed-message",
            vec![("x-delayed-type", text("none"))],
            Some(TYPE),
        ),
        (
            "x-delayed-message",
            vec![("x-delayed-type", int(1))],
            Some(TYPE),
        ),
        (
            "x-delayed-message",
            vec![("x-delayed-type", text("x-delayed-message"))],
            Some(TYPE),
        ),
        (
            "x-delayed-message",
            vec![("x-delayed-type", text("x-recent-history"))],
            Some(TYPE),
        ),
        ("x-recent-history", vec![], None),
        (
            "x-recent-history",
            vec![("x-recent-history-length", int(1))],
            None,
        ),
        (
            "x-recent-history",
            vec![("x-recent-history-length", int(0))],
            Some(
                "PRECONDITION_FAILED - Invalid argument 0, 'x-recent-history-length' must be a positive integer",
            ),
        ),
        (
            "x-recent-history",
            vec![("x-recent-history-length", text("many"))],
            Some(
                "PRECONDITION_FAILED - Invalid argument many, 'x-recent-history-length' must be a positive integer",
            ),
        ),
        (
            "x-recent-history",
            vec![("x-recent-history-length", int(10_001))],
            Some(
                "PRECONDITION_FAILED - Invalid argument 10001, 'x-recent-history-length' must not be above 10000",
            ),
        ),
        (
            "direct",
            vec![
                ("x-message-deduplication", FieldValue::Bool(true)),
                ("x-cache-size", int(5)),
            ],
            None,
        ),
        (
            "direct",
            vec![("x-message-deduplication", FieldValue::Bool(false))],
            None,
        ),
        (
            "direct",
            vec![("x-message-deduplication", FieldValue::Bool(true))],
            Some(
                "PRECONDITION_FAILED - invalid arg 'x-cache-size' for exchange 'e' in vhost '/': \"needed with 'x-message-deduplication'\"",
            ),
        ),
        (
            "direct",
            vec![
                ("x-message-deduplication", text("yes")),
                ("x-cache-size", int(5)),
            ],
            Some(
                "PRECONDITION_FAILED - invalid arg 'x-message-deduplication' for exchange 'e' in vhost '/': {unacceptable_type,longstr}",
            ),
        ),
        (
            "fanout",
            vec![("x-cache-size", int(0))],
            Some(
                "PRECONDITION_FAILED - invalid arg 'x-cache-size' for exchange 'e' in vhost '/': {value_zero,0}",
            ),
        ),
    ] {
        let mut driver = Driver::new();
        let command = CatalogCommand::DeclareExchange(spec("e", kind, &arguments));
        match refusal {
            None => assert_eq!(driver.ok(command), CatalogAnswer::Done { created: true }),
            Some(refusal) => {
                // What the code of a refusal is called is the reply code's business.
                let shown = driver.refusal(command);
                let refusal = refusal.trim_start_matches("PRECONDITION_FAILED - ");
                assert!(shown.ends_with(refusal), "{shown}");
            }
        }
    }
}

#[test]
fn a_queue_that_deduplicates_says_how_much_it_remembers() {
    let mut driver = Driver::new();
    let declare = |arguments: &[(&str, FieldValue)]| {
        CatalogCommand::DeclareQueue(QueueSpec {
            arguments: table(arguments),
            ..queue("q")
        })
    };
    let on = ("x-message-deduplication", FieldValue::Bool(true));
    let refusal = driver.refusal(declare(std::slice::from_ref(&on)));
    assert!(
        refusal.ends_with(
            "invalid arg 'x-cache-size' for queue 'q' in vhost '/': \"needed with 'x-message-deduplication'\""
        ),
        "{refusal}"
    );
    driver.ok(declare(&[
        on,
        ("x-cache-size", int(7)),
        ("x-cache-ttl", int(50)),
        ("x-deduplication-header", text("id")),
    ]));
    let settings = driver.catalog.queue("/", "q").unwrap().settings();
    assert_eq!(
        settings.deduplication,
        Some(Deduplication {
            header: "id".into(),
            cache_size: 7,
            cache_ttl_ms: Some(50),
        })
    );
}

#[test]
fn redeclared_with_other_arguments() {
    let mut driver = Driver::new();
    let delayed = |kind| {
        let arguments = [("x-delayed-type", text(kind))];
        CatalogCommand::DeclareExchange(spec("e", "x-delayed-message", &arguments))
    };
    driver.ok(delayed("direct"));
    assert_eq!(
        driver.ok(delayed("direct")),
        CatalogAnswer::Done { created: false }
    );
    let refusal = driver.refusal(delayed("topic"));
    assert!(
        refusal.ends_with(
            "inequivalent arg 'x-delayed-type' for exchange 'e' in vhost '/': received 'topic' but current is 'direct'"
        ),
        "{refusal}"
    );
}

/// Stores among the queues that a message reaches, and the names of the others.
fn reached(
    driver: &Driver,
    exchange: &str,
    key: &str,
    headers: &FieldTable,
) -> (usize, Vec<String>) {
    let mut found = Vec::new();
    let input = RouteInput {
        properties: headers,
        ..RouteInput::key(key)
    };
    driver
        .catalog
        .route(
            "/",
            exchange,
            &input,
            &mut crate::routing::Effort::at_once(),
            &mut found,
        )
        .unwrap();
    let stores = found
        .iter()
        .filter(|queue| queue.settings().store.is_some())
        .count();
    let names = found
        .iter()
        .filter(|queue| queue.settings().store.is_none())
        .map(|queue| queue.name.to_string());
    (stores, names.collect())
}

#[test]
fn a_delayed_message_goes_to_the_store_alone() {
    let mut driver = Driver::new();
    let arguments = [("x-delayed-type", text("topic"))];
    driver.ok(CatalogCommand::DeclareExchange(spec(
        "d",
        "x-delayed-message",
        &arguments,
    )));
    driver.exchange("front", "fanout");
    driver.ok(CatalogCommand::Bind(to_exchange("front", "d", "")));
    driver.queue("q");
    driver.queue("direct");
    driver.bind("d", "q", "a.*");
    driver.bind("front", "direct", "");
    for (exchange, key, delay, expected) in [
        ("d", "a.b", Some(5), (1, vec![])),
        ("d", "a.b", Some(0), (0, vec!["q"])),
        ("d", "a.b", Some(-5), (0, vec!["q"])),
        ("d", "a.b", None, (0, vec!["q"])),
        ("d", "b", None, (0, vec![])),
        // Whether it reaches a queue is known when its time has come.
        ("d", "b", Some(5), (1, vec![])),
        // Also behind another exchange; what else that leads to has it at once.
        ("front", "a.b", Some(5), (1, vec!["direct"])),
    ] {
        let headers =
            delay.map_or_else(FieldTable::empty, |delay| table(&[("x-delay", int(delay))]));
        let (stores, names) = reached(&driver, exchange, key, &headers);
        assert_eq!(
            (stores, names),
            (
                expected.0,
                expected.1.iter().map(|name| (*name).to_owned()).collect()
            ),
            "{exchange} {key} {delay:?}"
        );
    }
}

#[test]
fn a_history_keeps_what_passes() {
    let mut driver = Driver::new();
    let arguments = [("x-recent-history-length", int(3))];
    driver.ok(CatalogCommand::DeclareExchange(spec(
        "h",
        "x-recent-history",
        &arguments,
    )));
    driver.queue("q");
    driver.bind("h", "q", "any");
    let one = vec!["q".to_owned()];
    assert_eq!(
        reached(&driver, "h", "k", &FieldTable::empty()),
        (1, one.clone())
    );
    let no_store = table(&[("x-recent-history-no-store", FieldValue::Bool(true))]);
    assert_eq!(reached(&driver, "h", "k", &no_store), (0, one));
    let store = driver
        .catalog
        .exchange("/", "h")
        .unwrap()
        .store
        .clone()
        .unwrap();
    let settings = store.settings();
    assert_eq!(
        (settings.store, settings.max_length),
        (Some(Store::History), Some(3))
    );
    assert!(settings.max_length_bytes.is_some());
}

#[test]
fn a_store_lives_as_long_as_its_exchange() {
    let mut driver = Driver::new();
    let declare = || {
        let arguments = [("x-delayed-type", text("direct"))];
        CatalogCommand::DeclareExchange(spec("d", "x-delayed-message", &arguments))
    };
    driver.ok(declare());
    let store = driver
        .catalog
        .exchange("/", "d")
        .unwrap()
        .store
        .clone()
        .unwrap();
    assert_eq!(driver.events, [CatalogEvent::QueueDeclared(store.clone())]);
    assert_eq!(driver.catalog.queue_by_id(store.id), Some(&store));
    // Nobody sees it as a queue.
    assert_eq!(
        (
            driver.catalog.queue_count(),
            driver.catalog.queues("/").count()
        ),
        (0, 0)
    );
    assert_eq!(driver.catalog.stores().count(), 1);
    // A snapshot has it, at the same place.
    let restored = Catalog::decode_snapshot(&driver.catalog.encode_snapshot()).unwrap();
    assert_eq!(restored.queue_by_id(store.id), Some(&store));
    assert_eq!(
        restored.exchange("/", "d"),
        driver.catalog.exchange("/", "d")
    );
    let mut events = Vec::new();
    restored.events_since(&Catalog::new(), &mut events);
    assert!(events.contains(&CatalogEvent::QueueDeclared(store.clone())));
    // It goes with its exchange, and one of the same name gets another.
    driver.ok(CatalogCommand::DeleteExchange {
        vhost: "/".into(),
        name: "d".into(),
        if_unused: false,
    });
    assert!(
        driver
            .events
            .contains(&CatalogEvent::QueueDeleted(store.clone()))
    );
    assert_eq!(driver.catalog.queue_by_id(store.id), None);
    let mut events = Vec::new();
    driver.catalog.events_since(&restored, &mut events);
    assert!(events.contains(&CatalogEvent::QueueDeleted(store.clone())));
    driver.ok(declare());
    let next = driver
        .catalog
        .exchange("/", "d")
        .unwrap()
        .store
        .clone()
        .unwrap();
    assert_ne!(next.id, store.id);
    // And with its vhost.
    driver.ok(CatalogCommand::DeleteVhost { name: "/".into() });
    assert!(driver.events.contains(&CatalogEvent::QueueDeleted(next)));
    assert_eq!(driver.catalog.stores().count(), 0);
}
