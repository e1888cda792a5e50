//! Snapshots: equal catalogs have equal bytes, damage is noticed, differences become events.

use super::*;
use bytes::Bytes;

fn filled() -> Driver {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::PutVhost(VhostSpec {
        description: Some("second".into()),
        tags: Some(vec!["a".into(), "b".into()]),
        default_queue_type: Some("quorum".into()),
        protected: Some(true),
        tracing: Some(true),
        ..VhostSpec::named("v")
    }));
    let limits = Limits {
        max_queues: Some(9),
        ..Limits::default()
    };
    driver.ok(CatalogCommand::SetVhostLimits {
        vhost: "v".into(),
        limits,
    });
    driver.queue("q");
    driver.exchange("e", "topic");
    driver.bind("e", "q", "a.#");
    driver.bind("amq.direct", "q", "k");
    driver.ok(CatalogCommand::Bind(to_exchange("e", "amq.fanout", "x")));
    driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
        exclusive: Some(connection(1, 2, 3)),
        placement: Placement::Host(NodeId(1)),
        ..queue("mine")
    }));
    driver.ok(CatalogCommand::PutPolicy(PolicySpec {
        vhost: "/".into(),
        name: "p".into(),
        operator: false,
        pattern: ".*".into(),
        apply_to: "all".into(),
        priority: -1,
        definition: vec![
            ("message-ttl".into(), PolicyValue::Integer(5)),
            ("alternate-exchange".into(), PolicyValue::Text("e".into())),
        ],
    }));
    driver.ok(CatalogCommand::PutParameter {
        vhost: "/".into(),
        component: "shovel".into(),
        name: "s".into(),
        value: "{}".into(),
    });
    driver.ok(CatalogCommand::PutGlobalParameter {
        name: "g".into(),
        value: "1".into(),
    });
    driver.ok(CatalogCommand::NodeStarted {
        origin: origin(1, 2),
        all_were_down_in: None,
    });
    driver.ok(CatalogCommand::SetTopicPermissions(TopicPermissionSpec {
        user: "guest".into(),
        vhost: "/".into(),
        exchange: "e".into(),
        write: "^{username}".into(),
        read: ".*".into(),
    }));
    let key = Some(RequestKey {
        origin: origin(1, 2),
        number: 1,
    });
    let command = CatalogCommand::DeclareQueue(queue("amq.x"));
    driver
        .apply_request(CatalogRequest { key, command })
        .expect_err("reserved");
    driver
}

#[test]
fn restored_as_it_was() {
    let driver = filled();
    let chunks = driver.catalog.encode_snapshot();
    let restored = Catalog::decode_snapshot(&chunks).expect("a snapshot");
    assert_eq!(restored.encode_snapshot(), chunks);
    assert_eq!(restored.applied_index(), driver.catalog.applied_index());
    assert_eq!(
        restored.queue("/", "mine"),
        driver.catalog.queue("/", "mine")
    );
    assert_eq!(restored.queue("/", "q"), driver.catalog.queue("/", "q"));
    assert_eq!(
        restored.exchange("/", "amq.direct"),
        driver.catalog.exchange("/", "amq.direct")
    );
    assert_eq!(restored.queues_of(connection(1, 2, 3)).count(), 1);
    let mut found = Vec::new();
    let input = crate::routing::RouteInput::key("a.b");
    restored
        .route(
            "/",
            "e",
            &input,
            &mut crate::routing::Effort::at_once(),
            &mut found,
        )
        .expect("an exchange");
    assert_eq!(found.len(), 1);
    let mut events = Vec::new();
    restored.events_since(&driver.catalog, &mut events);
    assert!(events.is_empty(), "{events:?}");
}

#[test]
fn damage_is_noticed() {
    let chunks = filled().catalog.encode_snapshot();
    assert!(Catalog::decode_snapshot(&[]).is_err());
    assert!(Catalog::decode_snapshot(chunks.get(..1).expect("the head")).is_err());
    assert!(Catalog::decode_snapshot(chunks.get(1..).expect("the rest")).is_err());
    let mut cut = chunks.clone();
    let last = cut.pop().expect("a chunk");
    cut.push(last.slice(..last.len() - 1));
    assert!(Catalog::decode_snapshot(&cut).is_err());
    assert!(CatalogEntry::decode(Bytes::from_static(b"\xff\xff")).is_err());
}

#[test]
fn a_later_format_is_refused() {
    // Field 1 (format), varint 99.
    let later = Bytes::from_static(&[0x08, 99]);
    assert_eq!(
        CatalogEntry::decode(later.clone()),
        Err(StoredError::Newer { found: 99 })
    );
    assert!(decode_replies(later).is_err());
    // A request with a command of an unknown kind must not be skipped.
    let unknown = Bytes::from_static(&[0x08, 1, 0x12, 5, 0x12, 3, 0xfa, 0x07, 0]);
    assert!(CatalogEntry::decode(unknown).is_err());
}

#[test]
fn replies_keep_code_and_text() {
    let mut driver = Driver::new();
    let replies = vec![
        Ok(CatalogAnswer::Done { created: true }),
        driver.apply(CatalogCommand::DeclareQueue(queue("q"))),
        driver.apply(CatalogCommand::Bind(binding("none", "q", "k"))),
    ];
    let decoded = decode_replies(encode_replies(&replies)).expect("replies");
    assert_eq!(decoded.get(..2), replies.get(..2));
    let error = decoded
        .get(2)
        .and_then(|reply| reply.as_ref().err())
        .expect("a refusal");
    assert_eq!(shown(error), "404 no exchange 'none' in vhost '/'");
}

#[test]
fn differences_become_events() {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::PutVhost(VhostSpec::named("gone")));
    driver.queue("kept");
    driver.queue("gone");
    driver.exchange("gone", "fanout");
    let local = QueueSpec {
        durable: false,
        placement: Placement::Host(NodeId(1)),
        ..queue("local")
    };
    driver.ok(CatalogCommand::DeclareQueue(local));
    let before = Catalog::decode_snapshot(&driver.catalog.encode_snapshot()).expect("a snapshot");
    let mut expected = Vec::new();
    for command in [
        CatalogCommand::DeleteQueue {
            vhost: "/".into(),
            name: "gone".into(),
            expected: None,
        },
        CatalogCommand::DeleteExchange {
            vhost: "/".into(),
            name: "gone".into(),
            if_unused: false,
        },
        CatalogCommand::NodeDead {
            origin: origin(1, 1),
            new_host: NodeId(2),
        },
        CatalogCommand::DeclareQueue(queue("new")),
        CatalogCommand::DeleteVhost {
            name: "gone".into(),
        },
        CatalogCommand::PutVhost(VhostSpec::named("new")),
        CatalogCommand::DeleteUser {
            name: "guest".into(),
        },
    ] {
        driver.ok(command);
        expected.append(&mut driver.events);
    }
    let mut events = Vec::new();
    driver.catalog.events_since(&before, &mut events);
    let sorted = |events: Vec<CatalogEvent>| {
        let mut texts: Vec<_> = events.iter().map(|event| format!("{event:?}")).collect();
        texts.sort();
        texts
    };
    assert_eq!(sorted(events), sorted(expected));
}
