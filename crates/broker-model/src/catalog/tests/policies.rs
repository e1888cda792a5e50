//! Policies: which one counts, how values are merged, what follows from a change.

use super::*;

pub(super) fn policy(
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

pub(super) fn operator(spec: PolicySpec) -> PolicySpec {
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

pub(super) const fn int(value: i64) -> PolicyValue {
    PolicyValue::Integer(value)
}

pub(super) fn text(value: &str) -> PolicyValue {
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
