//! Policies: which one counts, how values are merged, what follows from a change.

use super::*;

fn policy(
    name: &str,
    pattern: &str,
    priority: i64,
    definition: &[(&str, PolicyValue)],
) -> PolicySpec {
    PolicySpec {
        vhost: "/".into(),
        name: name.into(),
        operator: false,
        pattern: pattern.into(),
        apply_to: "all".into(),
        priority,
        definition: definition
            .iter()
            .map(|(key, value)| (Name::from(*key), value.clone()))
            .collect(),
    }
}

fn operator(spec: PolicySpec) -> PolicySpec {
    PolicySpec {
        operator: true,
        apply_to: "queues".into(),
        ..spec
    }
}

/// OpenStack's and many cookbooks' expression for "all but what the broker names".
#[test]
fn patterns_may_look_ahead() {
    let mut driver = Driver::new();
    let ttl = [("message-ttl", int(500))];
    let all_but = |name: &str| policy(name, "^(?!amq\\.).*", 0, &ttl);
    driver.ok(CatalogCommand::PutPolicy(all_but("p")));
    driver.ok(CatalogCommand::PutPolicy(operator(all_but("o"))));
    for (name, server_named, expected) in [("q", false, "p o"), ("amq.gen-q", true, "")] {
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            server_named,
            ..queue(name)
        }));
        let record = driver.catalog.queue("/", name).expect("declared");
        let effective = &record.effective;
        let policies = [&effective.policy, &effective.operator_policy];
        let policies: Vec<&str> = policies.into_iter().filter_map(|p| p.as_deref()).collect();
        assert_eq!(policies.join(" "), expected, "{name}");
    }
    let broken = CatalogCommand::PutPolicy(policy("b", "^(?!amq", 0, &ttl));
    assert!(driver.catalog.check(&broken).is_err());
}

/// It would be matched against the names of all queues while the whole node waits.
#[test]
fn an_expression_that_goes_back_too_often_is_refused() {
    let mut driver = Driver::new();
    let ttl = [("message-ttl", int(500))];
    let put = |driver: &mut Driver| {
        let costly = policy("p", r"^(?=q)q-(a|aa)+\1x", 0, &ttl);
        driver.apply(CatalogCommand::PutPolicy(costly))
    };
    driver.ok(CatalogCommand::DeclareQueue(queue("q-aaaa")));
    assert!(put(&mut driver).is_ok(), "nothing takes long here");
    let long = format!("q-{}", "a".repeat(40));
    driver.ok(CatalogCommand::DeclareQueue(queue(&long)));
    let refused = put(&mut driver).unwrap_err().to_string();
    assert!(
        refused.contains(&long) && refused.contains("goes back"),
        "{refused}"
    );
}

const fn int(value: i64) -> PolicyValue {
    PolicyValue::Integer(value)
}

fn text(value: &str) -> PolicyValue {
    PolicyValue::Text(value.into())
}

#[test]
fn values_are_merged() {
    let mut driver = Driver::new();
    let arguments = table(&[
        ("x-message-ttl", FieldValue::I32(1000)),
        ("x-max-length", FieldValue::I32(10)),
        ("x-dead-letter-exchange", FieldValue::text("own")),
        ("x-overflow", FieldValue::text("reject-publish")),
    ]);
    driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
        arguments,
        ..queue("q")
    }));
    driver.ok(CatalogCommand::PutPolicy(policy(
        "p",
        "^q",
        0,
        &[
            ("message-ttl", int(500)),
            ("max-length", int(20)),
            ("dead-letter-exchange", text("policy's")),
            ("dead-letter-routing-key", text("k")),
            ("overflow", text("drop-head")),
            ("delivery-limit", int(7)),
        ],
    )));
    driver.ok(CatalogCommand::PutPolicy(operator(policy(
        "o",
        ".*",
        0,
        &[("max-length", int(5)), ("expires", int(60_000))],
    ))));
    let settings = |driver: &Driver| driver.catalog.queue("/", "q").expect("declared").clone();
    let record = settings(&driver);
    let merged = record.settings();
    assert_eq!(merged.message_ttl_ms, Some(500), "the lower one");
    assert_eq!(merged.max_length, Some(5));
    assert_eq!(merged.expires_ms, Some(60_000));
    assert_eq!(
        merged.dead_letter_exchange.as_deref(),
        Some("own"),
        "the argument wins"
    );
    assert_eq!(merged.dead_letter_routing_key.as_deref(), Some("k"));
    assert_eq!(merged.overflow, Overflow::RejectPublish);
    assert_eq!(merged.delivery_limit, Some(DeliveryLimit::Failures(7)));
    assert_eq!(record.effective.policy.as_deref(), Some("p"));
    assert_eq!(record.effective.operator_policy.as_deref(), Some("o"));
    assert!(
        matches!(driver.events.first(), Some(CatalogEvent::QueueSettingsChanged(q)) if *q == record)
    );
}

#[test]
fn overflow_of_quorum_queues_follows_the_policy() {
    let mut driver = Driver::new();
    let arguments = table(&[
        ("x-queue-type", FieldValue::text("quorum")),
        ("x-overflow", FieldValue::text("reject-publish")),
    ]);
    driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
        arguments,
        ..queue("q")
    }));
    driver.ok(CatalogCommand::PutPolicy(policy(
        "p",
        ".*",
        0,
        &[("overflow", text("drop-head"))],
    )));
    let record = driver.catalog.queue("/", "q").expect("declared");
    assert_eq!(record.settings().overflow, Overflow::DropHead);
}

#[test]
fn what_finds_no_queue_is_kept_where_nothing_is_dropped_for_it() {
    let (least, most) = (text("at-least-once"), text("at-most-once"));
    let reject = || FieldValue::text("reject-publish");
    let quorum = ("x-queue-type", FieldValue::text("quorum"));
    let strategy = ("x-dead-letter-strategy", FieldValue::text("at-least-once"));
    let both = [quorum.clone(), strategy, ("x-overflow", reject())];
    let refuses = [quorum, ("x-overflow", reject())];
    for (arguments, of_policy, kept) in [
        (&both[..], None, true),
        (&both[..2], None, false),
        (&refuses[..], None, false),
        (&refuses[..], Some(least), true),
        (&both[..], Some(most), true), // The argument wins.
    ] {
        let mut driver = Driver::new();
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            arguments: table(arguments),
            ..queue("q")
        }));
        if let Some(strategy) = of_policy {
            let definition = [("dead-letter-strategy", strategy)];
            driver.ok(CatalogCommand::PutPolicy(policy("p", ".*", 0, &definition)));
        }
        let record = driver.catalog.queue("/", "q").expect("declared");
        assert_eq!(record.settings().keeps_undeliverable, kept, "{arguments:?}");
    }
}

/// As a search for nothing finds it everywhere; a permission that is empty gives nothing.
#[test]
fn an_empty_pattern_matches_every_name() {
    let mut driver = Driver::new();
    driver.queue("q");
    driver.exchange("e", "direct");
    let ttl = [("message-ttl", int(7))];
    driver.ok(CatalogCommand::PutPolicy(policy("p", "", 0, &ttl)));
    let expires = [("expires", int(9))];
    driver.ok(CatalogCommand::PutPolicy(operator(policy(
        "o", "", 0, &expires,
    ))));
    let record = driver.catalog.queue("/", "q").expect("declared").clone();
    assert_eq!(record.effective.policy.as_deref(), Some("p"));
    assert_eq!(record.effective.operator_policy.as_deref(), Some("o"));
    assert_eq!(record.settings().message_ttl_ms, Some(7));
    assert_eq!(record.settings().expires_ms, Some(9));
    let exchange = driver.catalog.exchange("/", "e").expect("declared");
    assert_eq!(exchange.policy.as_deref(), Some("p"));
}

#[test]
fn any_negative_delivery_limit_is_none() {
    let mut driver = Driver::new();
    let limit = |number| policy("p", ".*", 0, &[("delivery-limit", int(number))]);
    let command = CatalogCommand::PutPolicy(limit(-5));
    assert_eq!(driver.catalog.check(&command), Ok(()));
    driver.queue("q");
    driver.ok(command);
    let of = |driver: &Driver| {
        let record = driver.catalog.queue("/", "q").expect("declared");
        record.settings().delivery_limit
    };
    assert_eq!(of(&driver), Some(DeliveryLimit::Unlimited));
    // Of two, any number before none.
    driver.ok(CatalogCommand::PutPolicy(operator(limit(3))));
    assert_eq!(of(&driver), Some(DeliveryLimit::Failures(3)));
}

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

#[test]
fn the_strongest_policy_counts() {
    let mut driver = Driver::new();
    driver.queue("q");
    let ttl = |value| [("message-ttl", int(value))];
    driver.ok(CatalogCommand::PutPolicy(policy("low", ".*", 1, &ttl(1))));
    driver.ok(CatalogCommand::PutPolicy(policy("high", "q", 2, &ttl(2))));
    driver.ok(CatalogCommand::PutPolicy(policy("other", "^x", 9, &ttl(3))));
    let kind = PolicySpec {
        apply_to: "quorum_queues".into(),
        ..policy("kind", ".*", 9, &ttl(4))
    };
    driver.ok(CatalogCommand::PutPolicy(kind));
    let ttl_of = |driver: &Driver| {
        driver
            .catalog
            .queue("/", "q")
            .and_then(|q| q.settings().message_ttl_ms)
    };
    assert_eq!(ttl_of(&driver), Some(2));
    let delete = |name: &str| CatalogCommand::DeletePolicy {
        vhost: "/".into(),
        name: name.into(),
        operator: false,
    };
    driver.ok(delete("high"));
    assert_eq!(ttl_of(&driver), Some(1));
    driver.ok(delete("low"));
    assert_eq!(ttl_of(&driver), None);
    assert_eq!(
        driver.ok(delete("low")),
        CatalogAnswer::Done { created: false }
    );
    // New queues find the policies that there are.
    let id = driver.queue("x1");
    let settings = driver
        .catalog
        .queue_by_id(id)
        .map(|q| q.settings().message_ttl_ms);
    assert_eq!(settings, Some(Some(3)));
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

#[test]
fn equal_settings_are_held_once() {
    let mut driver = Driver::new();
    let (a, b) = (driver.queue("a"), driver.queue("b"));
    let of = |id| {
        driver
            .catalog
            .queue_by_id(id)
            .expect("declared")
            .effective
            .clone()
    };
    assert!(std::sync::Arc::ptr_eq(&of(a), &of(b)));
}

#[test]
fn alternate_exchanges_by_policy() {
    let mut driver = Driver::new();
    driver.queue("lost");
    driver.bind("amq.fanout", "lost", "");
    driver.exchange("e", "direct");
    let named = ExchangeSpec {
        arguments: table(&[("alternate-exchange", FieldValue::text("amq.topic"))]),
        ..exchange("e2", "direct")
    };
    driver.ok(CatalogCommand::DeclareExchange(named));
    assert!(driver.route("e", "k").is_empty());
    let spec = policy("ae", "^e", 0, &[("alternate-exchange", text("amq.fanout"))]);
    driver.ok(CatalogCommand::PutPolicy(spec));
    assert_eq!(driver.route("e", "k"), ["lost"]);
    assert!(driver.route("e2", "k").is_empty(), "the argument wins");
    let delete = CatalogCommand::DeletePolicy {
        vhost: "/".into(),
        name: "ae".into(),
        operator: false,
    };
    driver.ok(delete);
    assert!(driver.route("e", "k").is_empty());
}

#[test]
fn policies_that_make_no_sense() {
    let driver = Driver::new();
    let check = |spec| driver.catalog.check(&CatalogCommand::PutPolicy(spec));
    assert_eq!(
        check(policy("p", ".*", 0, &[("message-ttl", int(1))])),
        Ok(())
    );
    assert_eq!(
        check(policy("p", ".*", 0, &[("ha-mode", text("all"))])),
        Ok(()),
        "kept, unused"
    );
    for (key, value) in [
        ("overflow", text("reject-publish-dlx")),
        ("dead-letter-strategy", text("at-most-once")),
        ("queue-leader-locator", text("balanced")),
        ("queue-mode", text("lazy")),
        ("queue-version", int(2)),
        ("max-age", text("7D")),
    ] {
        assert_eq!(
            check(policy("p", ".*", 0, &[(key, value)])),
            Ok(()),
            "{key}"
        );
    }
    for spec in [
        policy("p", "(", 0, &[("message-ttl", int(1))]),
        policy("p", ".*", 0, &[]),
        policy("p", ".*", 0, &[("message-ttl", int(-1))]),
        policy("p", ".*", 0, &[("message-ttl", text("1"))]),
        policy("p", ".*", 0, &[("expires", int(0))]),
        policy("p", ".*", 0, &[("overflow", text("x"))]),
        policy("p", ".*", 0, &[("dead-letter-strategy", text("x"))]),
        policy("p", ".*", 0, &[("queue-leader-locator", text("x"))]),
        policy("p", ".*", 0, &[("queue-mode", text("x"))]),
        policy("p", ".*", 0, &[("queue-version", int(3))]),
        policy("p", ".*", 0, &[("max-age", text("x"))]),
        policy("p", ".*", 0, &[("max-age", text("7"))]),
        policy("p", ".*", 0, &[("max-age", text("0D"))]),
        policy("p", ".*", 0, &[("max-priority", int(5))]),
        policy("p", ".*", 0, &[("no-such-key", int(5))]),
        PolicySpec {
            apply_to: "things".into(),
            ..policy("p", ".*", 0, &[("max-length", int(1))])
        },
        operator(policy("p", ".*", 0, &[("dead-letter-exchange", text("x"))])),
        PolicySpec {
            vhost: "none".into(),
            ..policy("p", ".*", 0, &[("max-length", int(1))])
        },
    ] {
        assert!(check(spec.clone()).is_err(), "{spec:?}");
    }
}

#[test]
fn the_lowest_delivery_limit_counts_and_none_is_the_highest() {
    let failures = |number| Some(DeliveryLimit::Failures(number));
    for (argument, by_policy, by_operator, expected) in [
        (None, None, None, None),
        (None, Some(-1), None, Some(DeliveryLimit::Unlimited)),
        (Some(-1), Some(3), None, failures(3)),
        (Some(4), Some(-1), None, failures(4)),
        (Some(4), Some(3), Some(2), failures(2)),
        (Some(-1), None, Some(0), failures(0)),
    ] {
        let mut driver = Driver::new();
        let arguments = argument.map(|number| ("x-delivery-limit", FieldValue::I64(number)));
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            arguments: table(arguments.as_slice()),
            ..queue("q")
        }));
        let put = |number: i64| policy("p", ".*", 0, &[("delivery-limit", int(number))]);
        if let Some(number) = by_policy {
            driver.ok(CatalogCommand::PutPolicy(put(number)));
        }
        if let Some(number) = by_operator {
            driver.ok(CatalogCommand::PutPolicy(operator(put(number))));
        }
        let record = driver.catalog.queue("/", "q").expect("declared");
        let found = record.settings().delivery_limit;
        assert_eq!(
            found, expected,
            "{argument:?} {by_policy:?} {by_operator:?}"
        );
    }
}

/// What says nothing of it is empty, or 0.
fn delayed_retry(kind: &str, min: i64, max: i64) -> PolicySpec {
    let kind = (!kind.is_empty()).then(|| ("delayed-retry-type", text(kind)));
    let numbers = [("delayed-retry-min", min), ("delayed-retry-max", max)].into_iter();
    let numbers = numbers.filter(|(_, number)| *number > 0);
    let numbers = numbers.map(|(key, number)| (key, int(number)));
    let definition: Vec<_> = kind.into_iter().chain(numbers).collect();
    policy("p", ".*", 0, &definition)
}

#[test]
fn delayed_retry_of_arguments_and_policies() {
    for (argument, user, by_operator, expected) in [
        (("", 0, 0), None, None, None),
        (("all", 0, 0), None, None, None),
        (("all", 7, 0), None, None, Some((RetryKind::All, 7, 7))),
        (("all", 7, 9), None, None, Some((RetryKind::All, 7, 9))),
        (("some", 7, 9), None, None, None),
        (
            ("all", 7, 9),
            Some(("returned", 5, 20)),
            None,
            Some((RetryKind::Returned, 5, 9)),
        ),
        (("all", 7, 9), Some(("disabled", 0, 0)), None, None),
        (
            ("", 0, 0),
            Some(("all", 5, 20)),
            Some(("failed", 8, 12)),
            Some((RetryKind::Failed, 8, 12)),
        ),
        (
            ("", 0, 0),
            Some(("all", 5, 0)),
            Some(("", 0, 12)),
            Some((RetryKind::All, 5, 12)),
        ),
    ] {
        let mut driver = Driver::new();
        let arguments = table(&[
            ("x-queue-type", FieldValue::text("quorum")),
            ("x-delayed-retry-type", FieldValue::text(argument.0)),
            ("x-delayed-retry-min", FieldValue::I64(argument.1)),
            ("x-delayed-retry-max", FieldValue::I64(argument.2)),
        ]);
        let arguments = if argument.0.is_empty() {
            table(&[])
        } else {
            arguments
        };
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            arguments,
            ..queue("q")
        }));
        if let Some((kind, min, max)) = user {
            let spec = delayed_retry(kind, min, max);
            driver.ok(CatalogCommand::PutPolicy(spec));
        }
        if let Some((kind, min, max)) = by_operator {
            let spec = operator(delayed_retry(kind, min, max));
            driver.ok(CatalogCommand::PutPolicy(spec));
        }
        let record = driver.catalog.queue("/", "q").expect("declared");
        let expected = expected.map(|(kind, min_ms, max_ms)| DelayedRetry {
            kind,
            min_ms,
            max_ms,
        });
        let found = record.settings().delayed_retry;
        assert_eq!(found, expected, "{argument:?} {user:?} {by_operator:?}");
    }
}

#[test]
fn policies_of_delayed_retry_that_make_no_sense_are_refused() {
    let driver = Driver::new();
    for (definition, expected) in [
        (
            vec![("delayed-retry-type", text("all"))],
            "delayed-retry-min is required when delayed-retry-type is all",
        ),
        (
            vec![("delayed-retry-min", int(5)), ("delayed-retry-max", int(4))],
            "delayed-retry-max (4) must not be smaller than delayed-retry-min (5)",
        ),
        (
            vec![
                ("delayed-retry-type", text("some")),
                ("delayed-retry-min", int(5)),
            ],
            "delayed-retry-type",
        ),
        (vec![("delayed-retry-min", int(0))], "delayed-retry-min"),
        (vec![("delayed-retry-max", text("5"))], "delayed-retry-max"),
    ] {
        let spec = policy("p", ".*", 0, &definition);
        for spec in [spec.clone(), operator(spec)] {
            let refused = driver.catalog.check(&CatalogCommand::PutPolicy(spec));
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }
    let off = policy("p", ".*", 0, &[("delayed-retry-type", text("disabled"))]);
    assert_eq!(
        driver.catalog.check(&CatalogCommand::PutPolicy(off)),
        Ok(())
    );
}

/// What the HTTP API shows is what counts.
#[test]
fn two_policies_together() {
    let spec = policy(
        "p",
        ".*",
        0,
        &[
            ("max-length", int(5)),
            ("message-ttl", int(9)),
            ("delivery-limit", int(-1)),
            ("overflow", text("drop-head")),
            ("dead-letter-exchange", text("x")),
            ("delayed-retry-min", int(4)),
            ("delayed-retry-max", int(40)),
        ],
    );
    let by_operator = policy(
        "o",
        ".*",
        0,
        &[
            ("max-length", int(7)),
            ("message-ttl", int(8)),
            ("delivery-limit", int(3)),
            ("overflow", text("reject-publish")),
            ("expires", int(1)),
            ("delayed-retry-min", int(6)),
            ("delayed-retry-max", int(60)),
        ],
    );
    let (user, operator) = (Policy::from_spec(&spec), Policy::from_spec(&by_operator));
    let merged = |user, operator| {
        let merged = merged_definition(user, operator).into_iter();
        let shown = merged.map(|(key, value)| format!("{key}={value}"));
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        merged(Some(&user), Some(&operator)),
        "dead-letter-exchange=\"x\" delayed-retry-max=40 delayed-retry-min=6 delivery-limit=3 \
         expires=1 max-length=5 message-ttl=8 \
         overflow=\"reject-publish\""
    );
    assert_eq!(merged(None, None), "");
    assert_eq!(
        merged(Some(&operator), Some(&user)),
        "dead-letter-exchange=\"x\" delayed-retry-max=40 delayed-retry-min=6 delivery-limit=3 \
         expires=1 max-length=5 message-ttl=8 \
         overflow=\"drop-head\""
    );
}

/// Files exported from RabbitMQ hold such ones.
#[test]
fn operator_policies_may_hold_what_rabbitmqs_may() {
    let driver = Driver::new();
    for key in [
        "target-group-size",
        "max-in-memory-length",
        "queue-version",
        "ha-mode",
        "delayed-retry-min",
    ] {
        let spec = operator(policy("p", ".*", 0, &[(key, int(2))]));
        assert_eq!(
            driver.catalog.check(&CatalogCommand::PutPolicy(spec)),
            Ok(()),
            "{key}"
        );
    }
    let spec = policy("p", ".*", 0, &[("member-placement-tag", text("t"))]);
    assert_eq!(
        driver.catalog.check(&CatalogCommand::PutPolicy(spec)),
        Ok(())
    );
}

#[test]
fn settings_of_arguments() {
    let arguments = table(&[
        ("x-max-priority", FieldValue::U8(10)),
        ("x-single-active-consumer", FieldValue::Bool(true)),
        ("x-delivery-limit", FieldValue::I32(-1)),
        ("x-consumer-timeout", FieldValue::I32(5000)),
    ]);
    let mut driver = Driver::new();
    let spec = QueueSpec {
        arguments,
        auto_delete: true,
        ..queue("q")
    };
    driver.ok(CatalogCommand::DeclareQueue(spec));
    let record = driver.catalog.queue("/", "q").expect("declared");
    assert_eq!(
        record.settings(),
        &QueueSettings {
            max_priority: Some(10),
            single_active_consumer: true,
            delivery_limit: Some(DeliveryLimit::Unlimited),
            consumer_timeout_ms: Some(5000),
            auto_delete: true,
            ..QueueSettings::default()
        }
    );
}
