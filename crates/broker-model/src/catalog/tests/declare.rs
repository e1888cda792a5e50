//! Declarations: arguments, reserved names, limits, and the texts of refusals.

use super::*;

const fn int(value: i32) -> FieldValue {
    FieldValue::I32(value)
}

fn text(value: &str) -> FieldValue {
    FieldValue::text(value)
}

/// The refusal of a new classic queue `q` with one argument.
fn refusal_of(key: &str, value: FieldValue, queue_type: Option<&str>) -> Option<String> {
    let mut driver = Driver::new();
    let mut entries = vec![(key, value)];
    entries.extend(queue_type.map(|name| ("x-queue-type", text(name))));
    let spec = QueueSpec {
        arguments: table(&entries),
        ..queue("q")
    };
    let checked = driver
        .catalog
        .check_declare_queue(&spec)
        .map(|queue| assert!(queue.is_none()));
    let applied = driver.apply(CatalogCommand::DeclareQueue(spec));
    assert_eq!(checked.as_ref().err(), applied.as_ref().err());
    applied.err().map(|error| shown(&error))
}

#[test]
fn arguments_of_classic_queues() {
    let at = |reason: &str, key: &str| {
        Some(format!(
            "406 invalid arg '{key}' for queue 'q' in vhost '/': {reason}"
        ))
    };
    for (key, value, reason) in [
        ("x-message-ttl", int(0), None),
        ("x-message-ttl", FieldValue::I64(5000), None),
        (
            "x-message-ttl",
            text("1000"),
            Some("\"expected integer, got longstr\""),
        ),
        ("x-message-ttl", int(-1), Some("{value_negative,-1}")),
        (
            "x-message-ttl",
            FieldValue::I64(TIME_MAX_MS + 1),
            Some("{value_too_large,315360000001}"),
        ),
        ("x-expires", int(1), None),
        ("x-expires", int(0), Some("{value_zero,0}")),
        ("x-expires", int(-5), Some("{value_negative,-5}")),
        ("x-max-length", int(0), None),
        ("x-max-length", int(-1), Some("{value_negative,-1}")),
        (
            "x-max-length",
            FieldValue::Bool(true),
            Some("\"expected integer, got bool\""),
        ),
        ("x-max-length-bytes", int(-1), Some("{value_negative,-1}")),
        ("x-max-priority", int(255), None),
        ("x-max-priority", int(300), Some("{max_value_exceeded,300}")),
        ("x-max-priority", int(-1), Some("{value_negative,-1}")),
        ("x-overflow", text("drop-head"), None),
        ("x-overflow", text("reject-publish"), None),
        ("x-overflow", text("reject-publish-dlx"), None),
        ("x-overflow", text("nonsense"), Some("invalid_overflow")),
        ("x-overflow", int(1), Some("{unacceptable_type,signedint}")),
        ("x-dead-letter-exchange", text("dlx"), None),
        (
            "x-dead-letter-routing-key",
            text("k"),
            Some("routing_key_but_no_dlx_defined"),
        ),
        ("x-single-active-consumer", FieldValue::Bool(true), None),
        (
            "x-single-active-consumer",
            int(1),
            Some("{unacceptable_type,signedint}"),
        ),
        ("x-queue-mode", text("lazy"), None),
        ("x-queue-version", int(2), None),
        ("x-queue-leader-locator", text("balanced"), None),
        (
            "x-queue-leader-locator",
            text("here"),
            Some("invalid_queue_locator_arg"),
        ),
        ("x-delivery-limit", int(-1), None),
        ("x-delivery-limit", int(-2), Some("{value_negative,-2}")),
        ("x-consumer-timeout", int(60000), None),
        ("x-message-deduplication", FieldValue::Bool(false), None),
        (
            "x-message-deduplication",
            int(1),
            Some("{unacceptable_type,signedint}"),
        ),
        ("x-cache-size", int(1), None),
        ("x-cache-size", int(0), Some("{value_zero,0}")),
        (
            "x-cache-size",
            int(1_000_001),
            Some("{max_value_exceeded,1000001}"),
        ),
        ("x-cache-ttl", int(1), None),
        ("x-cache-ttl", int(0), Some("{value_zero,0}")),
        ("x-deduplication-header", text("id"), None),
        ("x-of-somebody-else", FieldValue::Void, None),
        ("x-queue-type", text("classic"), None),
        (
            "x-queue-type",
            text("nonsense"),
            Some("\"unsupported queue type 'nonsense'\""),
        ),
        (
            "x-queue-type",
            int(1),
            Some("{unacceptable_type,signedint}"),
        ),
    ] {
        let expected = reason.and_then(|reason| at(reason, key));
        assert_eq!(
            refusal_of(key, value.clone(), None),
            expected,
            "{key} = {value:?}"
        );
    }
    assert_eq!(
        refusal_of("x-dead-letter-exchange", int(3), None).as_deref(),
        Some(
            "406 invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"
        )
    );
}

#[test]
fn arguments_of_consumers() {
    let queue = Resource::queue("/", "q");
    let of_streams = "of queue type rabbit_classic_queue";
    for (key, value, refusal) in [
        ("x-priority", int(-5), None),
        (
            "x-priority",
            text("high"),
            Some("q: \"expected integer, got longstr\""),
        ),
        ("x-consumer-timeout", int(0), None),
        (
            "x-consumer-timeout",
            int(-1),
            Some("q: {value_negative,-1}"),
        ),
        (
            "x-consumer-timeout",
            text("never"),
            Some("q: \"expected integer, got longstr\""),
        ),
        ("x-stream-offset", text("last"), Some(of_streams)),
        ("x-stream-filter", text("a"), Some(of_streams)),
        ("x-cancel-on-ha-failover", FieldValue::Bool(true), None),
        ("x-credit", FieldValue::Void, None),
        ("x-of-somebody-else", int(1), None),
    ] {
        let expected = refusal.map(|refusal| match refusal.strip_prefix("q: ") {
            Some(reason) => format!("406 invalid arg '{key}' for queue 'q' in vhost '/': {reason}"),
            None => format!("406 invalid arg '{key}' for queue 'q' in vhost '/' {refusal}"),
        });
        let arguments = table(&[(key, value)]);
        let checked = check_consumer_arguments(&queue, QueueType::Classic, &arguments);
        assert_eq!(checked.err().map(|error| shown(&error)), expected, "{key}");
    }
}

#[test]
fn arguments_of_another_type() {
    let at = |key: &str, module: &str| {
        Some(format!(
            "406 invalid arg '{key}' for queue 'q' in vhost '/' of queue type {module}"
        ))
    };
    assert_eq!(
        refusal_of("x-max-priority", int(5), Some("quorum")),
        at("x-max-priority", "rabbit_quorum_queue")
    );
    assert_eq!(
        refusal_of("x-quorum-initial-group-size", int(3), None),
        at("x-quorum-initial-group-size", "rabbit_classic_queue")
    );
    assert_eq!(
        refusal_of("x-max-age", text("7D"), None),
        at("x-max-age", "rabbit_classic_queue")
    );
    for (key, value) in [
        ("x-overflow", text("reject-publish-dlx")),
        ("x-delivery-limit", int(5)),
        ("x-quorum-initial-group-size", int(3)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-max-in-memory-length", int(10)),
        ("x-single-active-consumer", FieldValue::Bool(true)),
    ] {
        assert_eq!(refusal_of(key, value, Some("quorum")), None, "{key}");
    }
}

#[test]
fn quorum_queues_cannot_have_some_properties() {
    let mut driver = Driver::new();
    let quorum = || QueueSpec {
        arguments: table(&[("x-queue-type", text("quorum"))]),
        ..queue("q")
    };
    let owner = Some(connection(1, 1, 1));
    for (spec, text) in [
        (
            QueueSpec {
                exclusive: owner,
                ..quorum()
            },
            "invalid property 'exclusive-owner'",
        ),
        (
            QueueSpec {
                auto_delete: true,
                ..quorum()
            },
            "invalid property 'auto-delete'",
        ),
        (
            QueueSpec {
                durable: false,
                ..quorum()
            },
            "invalid property 'non-durable'",
        ),
    ] {
        let refusal = driver.refusal(CatalogCommand::DeclareQueue(spec));
        assert_eq!(refusal, format!("406 {text} for queue 'q' in vhost '/'"));
    }
    let named = QueueSpec {
        server_named: true,
        ..quorum()
    };
    assert_eq!(
        driver.refusal(CatalogCommand::DeclareQueue(named)),
        "406 Cannot declare a server-named queue for type rabbit_quorum_queue"
    );
    driver.ok(CatalogCommand::DeclareQueue(quorum()));
    assert_eq!(
        driver.catalog.queue("/", "q").map(|queue| queue.queue_type),
        Some(QueueType::Quorum)
    );
}

#[test]
fn names_of_the_broker() {
    let mut driver = Driver::new();
    let generated = QueueSpec {
        server_named: true,
        ..queue("amq.gen-x")
    };
    driver.ok(CatalogCommand::DeclareQueue(generated));
    for (command, expected) in [
        (
            CatalogCommand::DeclareQueue(queue("amq.x")),
            "403 queue name 'amq.x' contains reserved prefix 'amq.*'",
        ),
        (
            CatalogCommand::DeclareExchange(exchange("amq.x", "topic")),
            "403 exchange name 'amq.x' contains reserved prefix 'amq.*'",
        ),
        (
            CatalogCommand::DeclareExchange(exchange("", "direct")),
            "403 operation not permitted on the default exchange",
        ),
        (
            CatalogCommand::DeleteExchange {
                vhost: "/".into(),
                name: "".into(),
                if_unused: false,
            },
            "403 operation not permitted on the default exchange",
        ),
        (
            CatalogCommand::DeleteExchange {
                vhost: "/".into(),
                name: "amq.direct".into(),
                if_unused: false,
            },
            "403 deletion of system exchange 'amq.direct' in vhost '/' not allowed",
        ),
        (
            CatalogCommand::DeleteExchange {
                vhost: "/".into(),
                name: "amq.missing".into(),
                if_unused: true,
            },
            "403 deletion of system exchange 'amq.missing' in vhost '/' not allowed",
        ),
        (
            CatalogCommand::Bind(binding("", "amq.gen-x", "k")),
            "403 operation not permitted on the default exchange",
        ),
        (
            CatalogCommand::Bind(to_exchange("amq.direct", "", "k")),
            "403 operation not permitted on the default exchange",
        ),
        (
            CatalogCommand::Unbind(binding("", "amq.gen-x", "k")),
            "403 operation not permitted on the default exchange",
        ),
        (
            CatalogCommand::Bind(binding("amq.direct", "amq.rabbitmq.reply-to.x", "k")),
            "403 binding of queue 'amq.rabbitmq.reply-to.x' in vhost '/' not permitted",
        ),
        (
            CatalogCommand::DeclareExchange(exchange("e", "foo")),
            "406 unknown exchange type 'foo'",
        ),
        (
            CatalogCommand::DeclareQueue(QueueSpec {
                vhost: "nope".into(),
                ..queue("q")
            }),
            "530 vhost nope not found",
        ),
    ] {
        assert_eq!(driver.refusal(command), expected);
    }
    // What exists may be declared again as it is.
    driver.ok(CatalogCommand::DeclareExchange(exchange(
        "amq.direct",
        "direct",
    )));
    driver.ok(CatalogCommand::DeclareQueue(queue("amq.gen-x")));
}

#[test]
fn default_type_of_a_vhost() {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::PutVhost(VhostSpec {
        default_queue_type: Some("quorum".into()),
        ..VhostSpec::named("/")
    }));
    driver.queue("durable");
    let transient = QueueSpec {
        durable: false,
        placement: Placement::Host(NodeId(1)),
        ..queue("transient")
    };
    driver.ok(CatalogCommand::DeclareQueue(transient));
    let kind = |name| {
        driver
            .catalog
            .queue("/", name)
            .map(|queue| queue.queue_type)
    };
    assert_eq!(kind("durable"), Some(QueueType::Quorum));
    assert_eq!(kind("transient"), Some(QueueType::Classic));
}

#[test]
fn queue_limit_of_a_vhost() {
    let mut driver = Driver::new();
    let limits = Limits {
        max_queues: Some(1),
        ..Limits::default()
    };
    driver.ok(CatalogCommand::SetVhostLimits {
        vhost: "/".into(),
        limits,
    });
    driver.queue("a");
    driver.queue("a");
    assert_eq!(
        driver.refusal(CatalogCommand::DeclareQueue(queue("b"))),
        "406 cannot declare queue 'b': queue limit in vhost '/' (1) is reached"
    );
}

#[test]
fn queue_limit_of_the_cluster() {
    let mut driver = Driver::new();
    driver.queue("a");
    let check = |driver: &Driver, limit| {
        let checked = driver.catalog.check_queue_limit(&"b".into(), limit);
        checked.map_err(|error| shown(&error))
    };
    assert_eq!(check(&driver, None), Ok(()));
    assert_eq!(check(&driver, Some(2)), Ok(()));
    let refused = "406 cannot declare queue 'b': queue limit in cluster (1) is reached";
    assert_eq!(check(&driver, Some(1)), Err(refused.to_owned()));
}

#[test]
fn queues_behind_direct_replies_count_for_nothing() {
    let mut driver = Driver::new();
    let limits = Limits {
        max_queues: Some(1),
        ..Limits::default()
    };
    driver.ok(CatalogCommand::SetVhostLimits {
        vhost: "/".into(),
        limits,
    });
    let replies = |name: &str| {
        CatalogCommand::DeclareQueue(QueueSpec {
            durable: false,
            placement: Placement::Host(NodeId(1)),
            server_named: true,
            ..queue(name)
        })
    };
    let names = ["amq.rabbitmq.reply-to.1", "amq.rabbitmq.reply-to.2"];
    driver.ok(replies(names[0]));
    driver.queue("a");
    driver.ok(replies(names[1]));
    assert_eq!(driver.catalog.declared_queue_count(), 1);
    assert_eq!(driver.catalog.declared_queues("/").count(), 1);
    assert_eq!(driver.catalog.queue_count(), 3);
    assert!(is_reply_queue(names[0]) && !is_reply_queue("amq.rabbitmq.reply-to"));
    driver.ok(CatalogCommand::PutPolicy(PolicySpec {
        vhost: "/".into(),
        name: "all".into(),
        operator: false,
        pattern: ".*".into(),
        apply_to: "all".into(),
        priority: 0,
        definition: vec![("max-length".into(), PolicyValue::Integer(1))],
    }));
    driver.ok(replies("amq.rabbitmq.reply-to.3"));
    let most = |name: &str| {
        let record = driver.catalog.queue("/", name).expect("declared");
        record.settings().max_length
    };
    assert_eq!(most("a"), Some(1));
    assert_eq!(most(names[1]), None);
    assert_eq!(most("amq.rabbitmq.reply-to.3"), None);
    driver.ok(CatalogCommand::DeleteQueue {
        vhost: "/".into(),
        name: names[0].into(),
        expected: None,
    });
    assert_eq!(driver.catalog.declared_queue_count(), 1);
}

#[test]
fn line_ends_are_stripped() {
    assert_eq!(strip_line_ends("a\r\nb\n"), "ab");
    assert_eq!(strip_line_ends("ab"), "ab");
}
