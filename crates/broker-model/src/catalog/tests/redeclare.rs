//! Declarations of what exists: equivalence and exclusivity.

use super::*;

const fn int(value: i32) -> FieldValue {
    FieldValue::I32(value)
}

fn text(value: &str) -> FieldValue {
    FieldValue::text(value)
}

#[test]
fn redeclaring_a_queue() {
    let with = |entries: &[(&str, FieldValue)]| QueueSpec {
        arguments: table(entries),
        ..queue("q")
    };
    let inequivalent = |key: &str, rest: &str| {
        Some(format!(
            "406 inequivalent arg '{key}' for queue 'q' in vhost '/': {rest}"
        ))
    };
    for (first, second, expected) in [
        (queue("q"), queue("q"), None),
        (
            queue("q"),
            QueueSpec {
                durable: false,
                ..queue("q")
            },
            inequivalent("durable", "received 'false' but current is 'true'"),
        ),
        (
            queue("q"),
            QueueSpec {
                auto_delete: true,
                ..queue("q")
            },
            inequivalent("auto_delete", "received 'true' but current is 'false'"),
        ),
        (
            with(&[("x-message-ttl", int(1000))]),
            with(&[("x-message-ttl", FieldValue::I64(1000))]),
            None,
        ),
        (
            with(&[("x-message-ttl", int(1000))]),
            with(&[("x-message-ttl", int(2000))]),
            inequivalent("x-message-ttl", "received '2000' but current is '1000'"),
        ),
        (
            with(&[("x-message-ttl", int(1000))]),
            queue("q"),
            inequivalent(
                "x-message-ttl",
                "received none but current is the value '1000' of type 'signedint'",
            ),
        ),
        (
            queue("q"),
            with(&[("x-dead-letter-exchange", text("dlx"))]),
            inequivalent(
                "x-dead-letter-exchange",
                "received the value 'dlx' of type 'longstr' but current is none",
            ),
        ),
        (queue("q"), with(&[("x-unknown", int(1))]), None),
        (queue("q"), with(&[("x-queue-type", text("classic"))]), None),
        (
            with(&[("x-queue-type", text("quorum"))]),
            with(&[("x-queue-type", text("classic"))]),
            inequivalent("x-queue-type", "received 'classic' but current is 'quorum'"),
        ),
        (
            queue("q"),
            with(&[("x-queue-type", text("quorum"))]),
            inequivalent("x-queue-type", "received 'quorum' but current is 'classic'"),
        ),
        (
            with(&[("x-queue-type", text("quorum"))]),
            queue("q"),
            inequivalent("x-queue-type", "received 'classic' but current is 'quorum'"),
        ),
        (
            with(&[("x-queue-type", text("classic"))]),
            with(&[("x-queue-type", text("quorum"))]),
            inequivalent("x-queue-type", "received 'quorum' but current is 'classic'"),
        ),
        (with(&[("x-queue-mode", text("lazy"))]), queue("q"), None),
    ] {
        let mut driver = Driver::new();
        let first = driver.ok(CatalogCommand::DeclareQueue(first));
        let second = driver.apply(CatalogCommand::DeclareQueue(second.clone()));
        match (first, second) {
            (
                CatalogAnswer::Queue {
                    id, created: true, ..
                },
                Ok(CatalogAnswer::Queue {
                    id: again,
                    created: false,
                    ..
                }),
            ) => {
                assert_eq!(id, again);
                assert_eq!(expected, None);
            }
            (_, Err(error)) => assert_eq!(Some(shown(&error)), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn exclusive_queues_are_their_connections() {
    let (mine, theirs) = (connection(1, 5, 1), connection(2, 7, 1));
    let mut driver = Driver::new();
    let exclusive = |owner| QueueSpec {
        exclusive: Some(owner),
        placement: Placement::Host(NodeId(1)),
        ..queue("q")
    };
    driver.ok(CatalogCommand::DeclareQueue(exclusive(mine)));
    driver.ok(CatalogCommand::DeclareQueue(exclusive(mine)));
    let record = driver.catalog.queue("/", "q").expect("declared");
    assert!(!record.durable, "exclusive drops durable");
    let locked = "405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                  originally declared on another connection or the exclusive property value does \
                  not match that of the original declaration.";
    assert_eq!(
        driver.refusal(CatalogCommand::DeclareQueue(exclusive(theirs))),
        locked
    );
    assert_eq!(
        driver.refusal(CatalogCommand::DeclareQueue(queue("q"))),
        locked
    );
    driver.queue("shared");
    let reversed = QueueSpec {
        name: "shared".into(),
        ..exclusive(mine)
    };
    let refusal = driver.refusal(CatalogCommand::DeclareQueue(reversed));
    assert_eq!(refusal, locked.replace("'q'", "'shared'"));
    let access = |connection| {
        driver
            .catalog
            .check_queue_access("/", "q", connection)
            .map(drop)
    };
    assert_eq!(access(Some(mine)), Ok(()));
    assert_eq!(
        access(Some(theirs)).map_err(|e| shown(&e)),
        Err(locked.to_string())
    );
    assert!(access(None).is_err());
    let missing = driver
        .catalog
        .check_queue_access("/", "none", None)
        .map(drop);
    assert_eq!(
        missing.map_err(|e| shown(&e)),
        Err("404 no queue 'none' in vhost '/'".to_string())
    );
}

#[test]
fn redeclaring_an_exchange() {
    let alternate = |name: &str| ExchangeSpec {
        arguments: table(&[("alternate-exchange", text(name)), ("x-other", int(1))]),
        ..exchange("e", "topic")
    };
    let base = || exchange("e", "topic");
    for (first, second, expected) in [
        (base(), base(), None),
        (
            base(),
            exchange("e", "fanout"),
            Some("'type'|received 'fanout' but current is 'topic'"),
        ),
        (
            base(),
            ExchangeSpec {
                durable: false,
                ..base()
            },
            Some("'durable'|received 'false' but current is 'true'"),
        ),
        (
            base(),
            ExchangeSpec {
                auto_delete: true,
                ..base()
            },
            Some("'auto_delete'|received 'true' but current is 'false'"),
        ),
        (
            base(),
            ExchangeSpec {
                internal: true,
                ..base()
            },
            Some("'internal'|received 'true' but current is 'false'"),
        ),
        (
            alternate("a"),
            alternate("b"),
            Some("'alternate-exchange'|received 'b' but current is 'a'"),
        ),
        (
            base(),
            ExchangeSpec {
                arguments: table(&[("x-other", int(1))]),
                ..base()
            },
            None,
        ),
    ] {
        let mut driver = Driver::new();
        driver.ok(CatalogCommand::DeclareExchange(first));
        let refusal = driver.apply(CatalogCommand::DeclareExchange(second)).err();
        let expected = expected
            .and_then(|text| text.split_once('|'))
            .map(|(key, rest)| {
                format!("406 inequivalent arg {key} for exchange 'e' in vhost '/': {rest}")
            });
        assert_eq!(refusal.map(|error| shown(&error)), expected);
    }
    let wrong = ExchangeSpec {
        arguments: table(&[("alternate-exchange", int(1))]),
        ..base()
    };
    assert_eq!(
        Driver::new().refusal(CatalogCommand::DeclareExchange(wrong)),
        "406 invalid type 'signedint' for arg 'alternate-exchange' in exchange 'e' in vhost '/'"
    );
}
