//! Routing through exchanges of every kind.

use super::*;
use crate::routing::{Effort, RouteInput, RouteProperties};

fn headers_input(headers: &FieldTable) -> RouteInput<'_> {
    RouteInput {
        routing_key: "",
        more_keys: &[],
        properties: headers,
        random: 0,
        is_here: &|_| true,
    }
}

#[test]
fn default_and_missing_exchange() {
    let mut driver = Driver::new();
    driver.queue("q");
    assert_eq!(driver.route("", "q"), ["q"]);
    assert!(driver.route("", "none").is_empty());
    let mut found = Vec::new();
    let error = driver.catalog.route(
        "/",
        "none",
        &RouteInput::key("q"),
        &mut Effort::at_once(),
        &mut found,
    );
    assert_eq!(
        error.map_err(|e| shown(&e)),
        Err("404 no exchange 'none' in vhost '/'".to_string())
    );
}

#[test]
fn publishing_to_internal_exchanges() {
    let mut driver = Driver::new();
    let internal = ExchangeSpec {
        internal: true,
        ..exchange("i", "fanout")
    };
    driver.ok(CatalogCommand::DeclareExchange(internal));
    let check = |name| {
        driver
            .catalog
            .check_publish("/", name)
            .map(drop)
            .map_err(|e| shown(&e))
    };
    assert_eq!(
        check("i"),
        Err("403 cannot publish to internal exchange 'i' in vhost '/'".to_string())
    );
    assert_eq!(check(""), Ok(()));
    assert_eq!(
        check("none"),
        Err("404 no exchange 'none' in vhost '/'".to_string())
    );
}

#[test]
fn each_queue_once_in_order_of_ids() {
    let mut driver = Driver::new();
    for name in ["c", "a", "b"] {
        driver.queue(name);
        driver.bind("amq.topic", name, "#");
        driver.bind("amq.topic", name, "k.*");
    }
    assert_eq!(driver.route("amq.topic", "k.1"), ["c", "a", "b"]);
}

#[test]
fn exchanges_in_a_circle() {
    let mut driver = Driver::new();
    driver.queue("q");
    for name in ["a", "b", "c"] {
        driver.exchange(name, "fanout");
    }
    for (source, destination) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")] {
        driver.ok(CatalogCommand::Bind(to_exchange(source, destination, "")));
    }
    driver.bind("c", "q", "");
    for name in ["a", "b", "c"] {
        assert_eq!(driver.route(name, "k"), ["q"]);
    }
}

#[test]
fn a_long_way() {
    let mut driver = Driver::new();
    driver.queue("q");
    for number in 0..100 {
        driver.exchange(&format!("e{number}"), "fanout");
    }
    for number in 0..99 {
        let (from, to) = (format!("e{number}"), format!("e{}", number + 1));
        driver.ok(CatalogCommand::Bind(to_exchange(&from, &to, "")));
        driver.ok(CatalogCommand::Bind(to_exchange(&to, &from, "")));
    }
    driver.bind("e99", "q", "");
    assert_eq!(driver.route("e0", "k"), ["q"]);
}

#[test]
fn alternate_exchanges() {
    let mut driver = Driver::new();
    driver.queue("lost");
    driver.queue("found");
    let with = |name: &str, alternate: &str| ExchangeSpec {
        arguments: table(&[("alternate-exchange", FieldValue::text(alternate))]),
        ..exchange(name, "direct")
    };
    for (name, alternate) in [
        ("a", "b"),
        ("b", "a2"),
        ("a2", "amq.fanout"),
        ("self", "self"),
    ] {
        driver.ok(CatalogCommand::DeclareExchange(with(name, alternate)));
    }
    driver.ok(CatalogCommand::DeclareExchange(with("to-default", "")));
    driver.ok(CatalogCommand::DeclareExchange(with(
        "to-nowhere",
        "missing",
    )));
    driver.bind("a", "found", "k");
    driver.bind("amq.fanout", "lost", "");
    assert_eq!(driver.route("a", "k"), ["found"]);
    assert_eq!(driver.route("a", "x"), ["lost"], "at every hop");
    assert!(driver.route("self", "x").is_empty());
    assert!(driver.route("to-nowhere", "x").is_empty());
    assert_eq!(driver.route("to-default", "lost"), ["lost"]);
    // Own bindings that lead to an exchange count, even if that one routes nowhere.
    driver.exchange("empty", "fanout");
    driver.ok(CatalogCommand::Bind(to_exchange("a", "empty", "x")));
    assert!(driver.route("a", "x").is_empty());
}

#[test]
fn headers() {
    let text = |value: &str| FieldValue::text(value);
    let matching = |kind: &str, entries: &[(&str, FieldValue)]| {
        let mut all = vec![("x-match", text(kind))];
        all.extend(entries.iter().cloned());
        table(&all)
    };
    let number = FieldValue::I32(1);
    let pair = || [("a", number.clone()), ("b", text("x"))];
    let both = table(&pair());
    let only_a = table(&[("a", FieldValue::I64(1)), ("c", number.clone())]);
    for (arguments, message, expected) in [
        (table(&pair()), &both, true),
        (matching("all", &pair()), &both, true),
        (matching("all", &pair()), &only_a, false),
        (matching("any", &pair()), &only_a, true),
        (matching("any", &pair()), &table(&[("b", text("y"))]), false),
        (FieldTable::empty(), &only_a, true),
        (FieldTable::empty(), &FieldTable::empty(), true),
        (matching("any", &[]), &only_a, false),
        // A void value asks for presence.
        (matching("all", &[("a", FieldValue::Void)]), &both, true),
        (matching("all", &[("z", FieldValue::Void)]), &both, false),
        (matching("any", &[("c", FieldValue::Void)]), &only_a, true),
        // Values compare by value.
        (matching("all", &[("a", FieldValue::I8(1))]), &both, true),
        (
            matching("all", &[("a", FieldValue::F64(1.0))]),
            &both,
            false,
        ),
        (matching("all", &[("a", text("1"))]), &both, false),
        (
            matching("all", &[("f", FieldValue::F32(0.5))]),
            &table(&[("f", FieldValue::F64(0.5))]),
            true,
        ),
        // Keys beginning with x- count only in the -with-x forms.
        (
            matching("all", &[("x-a", number.clone())]),
            &FieldTable::empty(),
            true,
        ),
        (
            matching("any", &[("x-a", number.clone())]),
            &table(&[("x-a", number.clone())]),
            false,
        ),
        (
            matching("all-with-x", &[("x-a", number.clone())]),
            &FieldTable::empty(),
            false,
        ),
        (
            matching("all-with-x", &[("x-a", number.clone())]),
            &table(&[("x-a", number.clone())]),
            true,
        ),
        (
            matching("any-with-x", &[("x-a", number.clone()), ("b", text("x"))]),
            &table(&[("x-a", number.clone())]),
            true,
        ),
    ] {
        let mut driver = Driver::new();
        driver.queue("q");
        let spec = BindingSpec {
            arguments: arguments.clone(),
            ..binding("amq.headers", "q", "")
        };
        driver.ok(CatalogCommand::Bind(spec.clone()));
        let found = driver.route_with("amq.headers", &headers_input(message));
        assert_eq!(
            !found.is_empty(),
            expected,
            "{arguments:?} against {message:?}"
        );
        driver.ok(CatalogCommand::Unbind(spec));
        assert!(
            driver
                .route_with("amq.headers", &headers_input(message))
                .is_empty()
        );
    }
}

#[test]
fn headers_bindings_may_differ_in_their_key_only() {
    let mut driver = Driver::new();
    driver.queue("q");
    let message = table(&[("a", FieldValue::I32(1))]);
    let specs = ["", "k"].map(|key| BindingSpec {
        arguments: message.clone(),
        ..binding("amq.headers", "q", key)
    });
    for spec in &specs {
        driver.ok(CatalogCommand::Bind(spec.clone()));
    }
    for (spec, left) in specs.into_iter().zip([1, 0]) {
        driver.ok(CatalogCommand::Unbind(spec));
        assert_eq!(
            driver
                .route_with("amq.headers", &headers_input(&message))
                .len(),
            left
        );
    }
}

#[test]
fn consistent_hash_keeps_shares_and_places() {
    let mut driver = Driver::new();
    driver.exchange("h", "x-consistent-hash");
    for (name, weight) in [("a", "1"), ("b", "1"), ("c", "2")] {
        driver.queue(name);
        driver.bind("h", name, weight);
    }
    let all: Vec<_> = (0..4000)
        .map(|number| {
            let found = driver.route("h", &format!("key-{number}"));
            assert_eq!(found.len(), 1);
            found.concat()
        })
        .collect();
    for (name, share) in [("a", 1000), ("b", 1000), ("c", 2000)] {
        let count = all.iter().filter(|found| *found == name).count();
        assert!(count.abs_diff(share) < 150, "{name}: {count}");
    }
    // Only what belonged to a queue that goes is moved.
    driver.ok(CatalogCommand::DeleteQueue {
        vhost: "/".into(),
        name: "a".into(),
        expected: None,
    });
    for (number, before) in all.iter().enumerate().filter(|(_, name)| *name != "a") {
        assert_eq!(
            driver.route("h", &format!("key-{number}")).concat(),
            *before
        );
    }
}

#[test]
fn a_second_binding_to_a_consistent_hash_adds_no_weight() {
    let mut driver = Driver::new();
    driver.exchange("h", "x-consistent-hash");
    for (name, weight) in [("a", "1"), ("b", "1"), ("b", "30")] {
        driver.queue(name);
        driver.bind("h", name, weight);
    }
    let shares = |driver: &mut Driver| {
        let to_b = |number: &usize| driver.route("h", &format!("key-{number}")) == ["b"];
        (0..1000).filter(to_b).count()
    };
    let count = shares(&mut driver);
    assert!(count.abs_diff(500) < 80, "{count}");
    // When the one that counts is gone, the other does.
    driver.ok(CatalogCommand::Unbind(binding("h", "b", "1")));
    let count = shares(&mut driver);
    assert!(count > 900, "{count}");
}

struct Properties;

impl RouteProperties for Properties {
    fn message_id(&self) -> Option<&[u8]> {
        Some(b"m")
    }
}

#[test]
fn hash_on_properties_and_headers() {
    let mut driver = Driver::new();
    let declare = |name: &str, key: &str, value: &str| {
        CatalogCommand::DeclareExchange(ExchangeSpec {
            arguments: table(&[(key, FieldValue::text(value))]),
            ..exchange(name, "x-consistent-hash")
        })
    };
    driver.ok(declare("by-header", "hash-header", "id"));
    driver.ok(declare("by-id", "hash-property", "message_id"));
    assert_eq!(
        driver.refusal(declare("bad", "hash-property", "app_id")),
        "406 Unsupported property: app_id"
    );
    let both = ["hash-header", "hash-property"].map(|key| (key, FieldValue::text("message_id")));
    assert_eq!(
        driver.refusal(CatalogCommand::DeclareExchange(ExchangeSpec {
            arguments: table(&both),
            ..exchange("bad", "x-consistent-hash")
        })),
        "406 hash-header and hash-property are mutually exclusive"
    );
    for number in 0..20 {
        let name = format!("q{number}");
        driver.queue(&name);
        driver.bind("by-header", &name, "1");
        driver.bind("by-id", &name, "1");
    }
    // The routing key does not matter, the header or property does.
    let by_id = |key| {
        let input = RouteInput {
            routing_key: key,
            more_keys: &[],
            properties: &Properties,
            random: 0,
            is_here: &|_| true,
        };
        driver.route_with("by-id", &input)
    };
    assert_eq!(by_id("a"), by_id("b"));
    let reached: std::collections::BTreeSet<_> = (0..200)
        .map(|number| {
            let message = table(&[("id", FieldValue::I32(number))]);
            driver
                .route_with("by-header", &headers_input(&message))
                .concat()
        })
        .collect();
    assert!(reached.len() > 10, "{reached:?}");
}

#[test]
fn every_exchange_on_the_way_looks_at_all_keys() {
    let mut driver = Driver::new();
    driver.exchange("first", "direct");
    driver.exchange("second", "topic");
    for queue in ["a", "b"] {
        driver.queue(queue);
    }
    driver.ok(CatalogCommand::Bind(BindingSpec {
        destination: Destination::Exchange("second".into()),
        ..binding("first", "", "one")
    }));
    driver.bind("second", "a", "two");
    driver.bind("first", "b", "three");
    let reached = |exchange: &str, keys: &[&str]| {
        let (routing_key, more_keys) = keys.split_first().expect("a key");
        let input = RouteInput {
            more_keys,
            ..RouteInput::key(routing_key)
        };
        driver.route_with(exchange, &input)
    };
    assert_eq!(reached("first", &["", "one", "two"]), ["a"]);
    assert_eq!(reached("first", &["three", "two", "one"]), ["a", "b"]);
    assert!(reached("first", &["two", ""]).is_empty());
    assert_eq!(reached("", &["b", "a", "b", "none"]), ["a", "b"]);
}

#[test]
fn random_and_modulus() {
    let mut driver = Driver::new();
    driver.exchange("r", "x-random");
    driver.exchange("m", "x-modulus-hash");
    for number in 0..5 {
        let name = format!("q{number}");
        driver.queue(&name);
        driver.bind("r", &name, "");
        driver.bind("m", &name, "");
    }
    let reached: std::collections::BTreeSet<_> = (0..5)
        .map(|random| {
            driver
                .route_with(
                    "r",
                    &RouteInput {
                        random,
                        ..RouteInput::key("")
                    },
                )
                .concat()
        })
        .collect();
    assert_eq!(reached.len(), 5);
    let reached: std::collections::BTreeSet<_> = (0..200)
        .map(|number| driver.route("m", &number.to_string()).concat())
        .collect();
    assert_eq!(reached.len(), 5);
}

#[test]
fn local_random() {
    let mut driver = Driver::new();
    driver.exchange("l", "x-local-random");
    let here = [Placement::Host(NodeId(1)), Placement::Shard(ShardId(1))];
    let there = [Placement::Host(NodeId(2)), Placement::Shard(ShardId(2))];
    for (name, placement) in ["a", "b", "c", "d"]
        .into_iter()
        .zip(here.into_iter().chain(there))
    {
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            durable: placement.host().is_none(),
            placement,
            ..queue(name)
        }));
        driver.bind("l", name, "");
    }
    let reached = |key: &str, random, is_here: &dyn Fn(Placement) -> bool| {
        let input = RouteInput {
            random,
            is_here,
            ..RouteInput::key(key)
        };
        driver.route_with("l", &input)
    };
    let found: std::collections::BTreeSet<_> = (0..10)
        .map(|random| reached("any", random, &|placement| here.contains(&placement)))
        .collect();
    assert_eq!(found, [vec!["a".to_owned()], vec!["b".to_owned()]].into());
    assert_eq!(reached("", 7, &|placement| placement == there[1]), ["d"]);
    assert!(reached("", 7, &|_| false).is_empty());
}

#[test]
fn what_a_local_random_exchange_may_lead_to() {
    let mut driver = Driver::new();
    driver.exchange("l", "x-local-random");
    driver.queue("classic");
    driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
        arguments: table(&[("x-queue-type", FieldValue::text("quorum"))]),
        ..queue("quorum")
    }));
    driver.bind("l", "classic", "");
    let to_exchange = BindingSpec {
        destination: Destination::Exchange("amq.fanout".into()),
        ..binding("l", "", "")
    };
    for (spec, expected) in [
        (
            binding("l", "classic", "k"),
            "406 Non empty binding 'k' key not permitted",
        ),
        (
            binding("l", "quorum", ""),
            "406 Queue type rabbit_quorum_queue not valid for this exchange type",
        ),
        (to_exchange, "406 Destination not found"),
    ] {
        let error = driver.catalog.check_bind(&spec).unwrap_err();
        assert_eq!(shown(&error), expected);
    }
}

#[test]
fn routing_version_moves_with_what_matters() {
    let mut driver = Driver::new();
    driver.queue("q");
    let before = driver.catalog.routing_version("/");
    driver.ok(CatalogCommand::SetClusterName { name: "n".into() });
    driver.queue("q");
    driver.ok(CatalogCommand::PutVhost(VhostSpec::named("v")));
    assert_eq!(driver.catalog.routing_version("/"), before);
    driver.bind("amq.direct", "q", "k");
    assert!(driver.catalog.routing_version("/") > before);
}

/// As with RabbitMQ a message goes to one of the bindings, however many keys it has.
#[test]
fn more_keys_choose_no_more_where_one_binding_is_picked() {
    for kind in ["x-consistent-hash", "x-modulus-hash"] {
        let mut driver = Driver::new();
        driver.exchange("h", kind);
        for name in ["a", "b", "c", "d"] {
            driver.queue(name);
            driver.bind("h", name, "1");
        }
        let more: Vec<String> = (0..20).map(|number| format!("more-{number}")).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let input = RouteInput {
            routing_key: "key",
            more_keys: &more,
            properties: &Properties,
            random: 0,
            is_here: &|_| true,
        };
        let found = driver.route_with("h", &input);
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found, driver.route("h", "key"));
    }
}

/// Many keys of one message meet many patterns: somebody counts.
#[test]
fn a_message_with_many_keys_takes_no_more_than_it_may() {
    let mut driver = Driver::new();
    driver.queue("q");
    driver.bind("amq.topic", "q", "7");
    // Each word of a key may be any of these.
    driver.bind("amq.topic", "q", &format!("{}none", "#.a.".repeat(40)));
    let key = vec!["a"; 100].join(".");
    let route = |keys: usize, effort: &mut Effort| {
        let more = vec![key.as_str(); keys];
        let input = RouteInput {
            more_keys: &more,
            ..RouteInput::key("7")
        };
        let mut found = Vec::new();
        let routed = (driver.catalog).route("/", "amq.topic", &input, effort, &mut found);
        routed.map(|()| found.len())
    };
    assert_eq!(route(3, &mut Effort::at_once()), Ok(1));
    let refused = Err(CatalogError::TooCostly);
    assert_eq!(route(100, &mut Effort::at_once()), refused);
    assert_eq!(route(100, &mut Effort::at_length()), Ok(1));
    assert_eq!(route(10_000, &mut Effort::at_length()), refused);
}

/// Each key leads to all queues: each of them is kept once, not once for each key.
#[test]
fn many_keys_that_lead_to_the_same_queues() {
    let mut driver = Driver::new();
    for number in 0..200 {
        let name = format!("q{number}");
        driver.queue(&name);
        driver.bind("amq.topic", &name, "#");
    }
    let more = vec!["k"; 5_000];
    let input = RouteInput {
        more_keys: &more,
        ..RouteInput::key("k")
    };
    assert_eq!(driver.route_with("amq.topic", &input).len(), 200);
}

/// What only walks along a list counts little: a fanout to very many queues is nothing unusual.
#[test]
fn a_fanout_to_many_queues_takes_little() {
    let mut driver = Driver::new();
    for number in 0..20_000 {
        let name = format!("q{number}");
        driver.queue(&name);
        driver.bind("amq.fanout", &name, "");
    }
    let mut found = Vec::new();
    let (input, mut effort) = (RouteInput::key(""), Effort::at_once());
    let routed = (driver.catalog).route("/", "amq.fanout", &input, &mut effort, &mut found);
    assert_eq!(routed, Ok(()));
    assert_eq!(found.len(), 20_000);
}
