//! Bindings: identity, refusals, what goes with what.

use super::*;

#[test]
fn missing_ends_and_bad_arguments() {
    let mut driver = Driver::new();
    driver.queue("q");
    driver.exchange("hash", "x-consistent-hash");
    let matching = |value| BindingSpec {
        arguments: table(&[("x-match", value)]),
        ..binding("amq.headers", "q", "")
    };
    for (spec, expected) in [
        (binding("e", "q", "k"), "404 no exchange 'e' in vhost '/'"),
        (
            binding("e", "none", "k"),
            "404 no exchange 'e' in vhost '/'",
        ),
        (
            binding("amq.direct", "none", "k"),
            "404 no queue 'none' in vhost '/'",
        ),
        (
            to_exchange("amq.direct", "none", "k"),
            "404 no exchange 'none' in vhost '/'",
        ),
        (
            matching(FieldValue::text("foo")),
            "406 Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            matching(FieldValue::I32(1)),
            "406 Invalid x-match field type signedint (value 1); expected longstr",
        ),
        (
            binding("hash", "q", "ten"),
            "406 The binding key must be an integer: <<\"ten\">>",
        ),
        (
            binding("hash", "q", "0"),
            "406 The binding key must be greater than 0",
        ),
    ] {
        assert_eq!(driver.refusal(CatalogCommand::Bind(spec.clone())), expected);
    }
    for value in ["all", "any", "all-with-x", "any-with-x"] {
        driver.ok(CatalogCommand::Bind(matching(FieldValue::text(value))));
    }
    // What earlier versions have put into the log is applied.
    let heavy = binding("hash", "q", "10001");
    let refused = driver
        .catalog
        .check_bind(&heavy)
        .map_err(|error| shown(&error));
    assert_eq!(
        refused.expect_err("too heavy"),
        "406 The binding key must not exceed 10000"
    );
    driver.ok(CatalogCommand::Bind(heavy));
    assert!(
        driver
            .catalog
            .check_bind(&binding("hash", "q", "10000"))
            .is_ok()
    );
    // Nothing to remove is no error.
    for spec in [binding("e", "q", "k"), binding("amq.direct", "none", "k")] {
        assert_eq!(
            driver.ok(CatalogCommand::Unbind(spec)),
            CatalogAnswer::Done { created: false }
        );
    }
}

#[test]
fn identity_of_a_binding() {
    let mut driver = Driver::new();
    driver.queue("q");
    let with = |arguments| BindingSpec {
        arguments,
        ..binding("amq.topic", "q", "k")
    };
    let (a, b) = (("a", FieldValue::I32(1)), ("b", FieldValue::I32(2)));
    let created = |answer| answer == CatalogAnswer::Done { created: true };
    assert!(created(driver.bind("amq.topic", "q", "k")));
    assert!(!created(driver.bind("amq.topic", "q", "k")));
    assert!(created(
        driver.ok(CatalogCommand::Bind(with(table(&[a.clone(), b.clone()]))))
    ));
    // The order of a client's dictionary is not part of it.
    assert!(!created(
        driver.ok(CatalogCommand::Bind(with(table(&[b.clone(), a.clone()]))))
    ));
    assert_eq!(driver.catalog.bindings_from("/", "amq.topic").count(), 2);
    assert_eq!(driver.route("amq.topic", "k"), ["q"]);
    assert!(created(driver.ok(CatalogCommand::Unbind(binding(
        "amq.topic",
        "q",
        "k"
    )))));
    assert_eq!(
        driver.route("amq.topic", "k"),
        ["q"],
        "the other one is left"
    );
    assert!(created(
        driver.ok(CatalogCommand::Unbind(with(table(&[b, a]))))
    ));
    assert!(driver.route("amq.topic", "k").is_empty());
}

#[test]
fn arguments_tell_bindings_apart() {
    let mut driver = Driver::new();
    driver.queue("q");
    driver.bind("amq.topic", "q", "");
    driver.bind("amq.topic", "q", "k");
    let with = BindingSpec {
        arguments: table(&[("a", FieldValue::I32(1))]),
        ..binding("amq.topic", "q", "k")
    };
    driver.ok(CatalogCommand::Bind(with));
    let hashes: Vec<_> = driver
        .catalog
        .bindings_from("/", "amq.topic")
        .filter_map(|b| b.arguments_hash())
        .collect();
    assert_eq!(hashes.len(), 1, "only one has arguments");
    let implicit: Vec<_> = driver
        .catalog
        .bindings_to("/", &Destination::Queue("q".into()))
        .take(1)
        .collect();
    assert_eq!(
        implicit.first().map(|b| (&*b.source, &*b.routing_key)),
        Some(("", "q"))
    );
}

#[test]
fn auto_delete_exchanges_go_with_their_last_binding() {
    let mut driver = Driver::new();
    driver.queue("q");
    let auto = |name: &str| ExchangeSpec {
        auto_delete: true,
        ..exchange(name, "fanout")
    };
    for name in ["a", "b", "unbound"] {
        driver.ok(CatalogCommand::DeclareExchange(auto(name)));
    }
    driver.exchange("plain", "fanout");
    // a -> b -> q: with the queue goes b's last binding, with b goes a's.
    driver.ok(CatalogCommand::Bind(to_exchange("a", "b", "")));
    driver.bind("b", "q", "");
    driver.bind("plain", "q", "");
    driver.ok(CatalogCommand::DeleteQueue {
        vhost: "/".into(),
        name: "q".into(),
        expected: None,
    });
    let gone: Vec<_> = driver
        .events
        .iter()
        .filter_map(|event| match event {
            CatalogEvent::ExchangeDeleted { name, .. } => Some(&**name),
            _ => None,
        })
        .collect();
    assert_eq!(gone, ["b", "a"]);
    for (name, exists) in [
        ("a", false),
        ("b", false),
        ("unbound", true),
        ("plain", true),
    ] {
        assert_eq!(
            driver.catalog.exchange("/", name).is_some(),
            exists,
            "{name}"
        );
    }
    // As destination only, an exchange stays.
    driver.ok(CatalogCommand::Bind(to_exchange("plain", "unbound", "")));
    driver.ok(CatalogCommand::Unbind(to_exchange("plain", "unbound", "")));
    assert!(driver.catalog.exchange("/", "unbound").is_some());
}

#[test]
fn auto_delete_exchange_bound_to_itself() {
    let mut driver = Driver::new();
    let auto = ExchangeSpec {
        auto_delete: true,
        ..exchange("a", "fanout")
    };
    driver.ok(CatalogCommand::DeclareExchange(auto));
    driver.ok(CatalogCommand::Bind(to_exchange("a", "a", "")));
    driver.ok(CatalogCommand::DeleteExchange {
        vhost: "/".into(),
        name: "a".into(),
        if_unused: false,
    });
    assert!(driver.catalog.exchange("/", "a").is_none());
    driver.exchange("a", "fanout");
    assert_eq!(driver.catalog.bindings_from("/", "a").count(), 0);
}

#[test]
fn deleting_an_exchange() {
    let mut driver = Driver::new();
    driver.queue("q");
    driver.exchange("e", "direct");
    driver.exchange("f", "fanout");
    driver.bind("e", "q", "k");
    driver.ok(CatalogCommand::Bind(to_exchange("f", "e", "")));
    let delete = |if_unused| CatalogCommand::DeleteExchange {
        vhost: "/".into(),
        name: "e".into(),
        if_unused,
    };
    assert_eq!(
        driver.refusal(delete(true)),
        "406 exchange 'e' in vhost '/' in use"
    );
    assert_eq!(
        driver.ok(delete(false)),
        CatalogAnswer::Done { created: true }
    );
    assert_eq!(
        driver.ok(delete(true)),
        CatalogAnswer::Done { created: false }
    );
    assert_eq!(driver.catalog.bindings_from("/", "f").count(), 0);
    assert_eq!(driver.catalog.bindings("/").count(), 1, "the queue's own");
}
