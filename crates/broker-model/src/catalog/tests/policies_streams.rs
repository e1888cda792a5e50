//! Policies of streams, and of what is no stream.

use super::policies::*;
use super::*;

/// A policy says how long streams keep what they have, whatever they were declared with.
#[test]
fn of_streams_the_policy_wins() {
    let mut driver = Driver::new();
    let stream = QueueSpec {
        arguments: table(&[
            ("x-queue-type", FieldValue::text("stream")),
            ("x-max-length-bytes", FieldValue::I32(1_000)),
            ("x-max-age", FieldValue::text("1m")),
        ]),
        ..queue("s")
    };
    driver.ok(CatalogCommand::DeclareQueue(stream));
    let of = |driver: &Driver| {
        let record = driver.catalog.queue("/", "s").expect("declared");
        let settings = record.settings();
        (settings.max_length_bytes, settings.max_age_ms)
    };
    assert_eq!(of(&driver), (Some(1_000), Some(60_000)));
    let definition = [("max-length-bytes", int(9_000)), ("max-age", text("1h"))];
    driver.ok(CatalogCommand::PutPolicy(policy("p", ".*", 0, &definition)));
    assert_eq!(of(&driver), (Some(9_000), Some(3_600_000)));
    // Of policy and operator policy the lesser.
    for (bytes, expected) in [(20_000, 9_000), (4_000, 4_000)] {
        driver.ok(CatalogCommand::PutPolicy(operator(policy(
            "o",
            ".*",
            0,
            &[("max-length-bytes", int(bytes))],
        ))));
        assert_eq!(of(&driver), (Some(expected), Some(3_600_000)));
    }
    driver.ok(CatalogCommand::DeletePolicy {
        vhost: "/".into(),
        name: "p".into(),
        operator: false,
    });
    assert_eq!(of(&driver), (Some(4_000), Some(60_000)));
}

/// As with RabbitMQ: one that speaks of what streams do not have leaves them to the next.
#[test]
fn policies_of_work_queues_leave_streams_alone() {
    let mut driver = Driver::new();
    let stream = QueueSpec {
        arguments: table(&[("x-queue-type", FieldValue::text("stream"))]),
        ..queue("s")
    };
    driver.ok(CatalogCommand::DeclareQueue(stream));
    driver.queue("q");
    for (name, priority, definition) in [
        ("low", 0, vec![("max-length-bytes", int(9))]),
        (
            "ttl",
            1,
            vec![("max-length-bytes", int(1)), ("message-ttl", int(5))],
        ),
        (
            "full",
            2,
            vec![
                ("max-length-bytes", int(2)),
                ("overflow", text("reject-publish")),
            ],
        ),
        (
            "mirrors",
            3,
            vec![("max-length-bytes", int(3)), ("ha-mode", text("all"))],
        ),
    ] {
        driver.ok(CatalogCommand::PutPolicy(policy(
            name,
            ".*",
            priority,
            &definition,
        )));
    }
    let of = |driver: &Driver, name: &str| {
        let queue = driver.catalog.queue("/", name).expect("declared").clone();
        (
            queue.effective.policy.clone(),
            queue.settings().max_length_bytes,
        )
    };
    assert_eq!(of(&driver, "s"), (Some("low".into()), Some(9)));
    assert_eq!(of(&driver, "q"), (Some("mirrors".into()), Some(3)));
    let age = PolicySpec {
        apply_to: "streams".into(),
        ..policy("age", ".*", 9, &[("max-age", text("1h"))])
    };
    driver.ok(CatalogCommand::PutPolicy(age));
    assert_eq!(of(&driver, "s"), (Some("age".into()), None));
    assert_eq!(of(&driver, "q"), (Some("mirrors".into()), Some(3)));
    let settings = driver
        .catalog
        .queue("/", "s")
        .expect("declared")
        .settings()
        .clone();
    assert_eq!(settings.max_age_ms, Some(3_600_000));
}

/// As with RabbitMQ: one that speaks of what only streams have leaves other queues to the next.
#[test]
fn policies_of_streams_leave_other_queues_alone() {
    let mut driver = Driver::new();
    let quorum = QueueSpec {
        arguments: table(&[("x-queue-type", FieldValue::text("quorum"))]),
        ..queue("quorum")
    };
    driver.ok(CatalogCommand::DeclareQueue(quorum));
    driver.queue("classic");
    for (name, priority, definition) in [
        ("short", 0, vec![("max-length", int(9))]),
        ("age", 1, vec![("max-age", text("1h"))]),
        (
            "segments",
            2,
            vec![
                ("max-length-bytes", int(1)),
                ("stream-max-segment-size-bytes", int(1)),
            ],
        ),
    ] {
        let spec = policy(name, ".*", priority, &definition);
        driver.ok(CatalogCommand::PutPolicy(spec));
    }
    for name in ["quorum", "classic"] {
        let queue = driver.catalog.queue("/", name).expect("declared");
        assert_eq!(queue.effective.policy, Some("short".into()), "{name}");
        let settings = queue.settings();
        assert_eq!(
            (settings.max_length, settings.max_length_bytes),
            (Some(9), None),
            "{name}"
        );
    }
}
