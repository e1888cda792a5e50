//! What an operator has set for declarations: the usual type, and redeclarations as another type.

use super::*;

const fn int(value: i32) -> FieldValue {
    FieldValue::I32(value)
}

fn text(value: &str) -> FieldValue {
    FieldValue::text(value)
}

/// The type is put into the arguments where replicas would not know it.
#[test]
fn the_usual_type_may_be_left_open() {
    let node = |default_queue_type| DeclareRules {
        default_queue_type,
        ..DeclareRules::default()
    };
    let (classic, quorum) = (node(QueueType::Classic), node(QueueType::Quorum));
    for (rules, of_vhost, named, expected, if_exclusive) in [
        (classic, None, None, None, None),
        (classic, None, Some(""), Some("classic"), Some("classic")),
        (
            classic,
            None,
            Some("undefined"),
            Some("classic"),
            Some("classic"),
        ),
        (
            classic,
            Some(""),
            Some("undefined"),
            Some("classic"),
            Some("classic"),
        ),
        (
            classic,
            Some("quorum"),
            Some(""),
            Some("quorum"),
            Some("classic"),
        ),
        (
            classic,
            Some("quorum"),
            Some("classic"),
            Some("classic"),
            Some("classic"),
        ),
        (
            classic,
            Some("quorum"),
            Some("nonsense"),
            Some("nonsense"),
            Some("nonsense"),
        ),
        (classic, Some("quorum"), None, None, None),
        (quorum, None, None, Some("quorum"), None),
        (
            quorum,
            None,
            Some("undefined"),
            Some("quorum"),
            Some("classic"),
        ),
        (
            quorum,
            None,
            Some("classic"),
            Some("classic"),
            Some("classic"),
        ),
        (quorum, Some(""), None, Some("quorum"), None),
        (quorum, Some("classic"), None, None, None),
        (quorum, Some("stream"), None, None, None),
    ] {
        let mut driver = Driver::new();
        driver.ok(CatalogCommand::PutVhost(VhostSpec {
            default_queue_type: of_vhost.map(Name::from),
            ..VhostSpec::named("/")
        }));
        let mut entries = vec![("x-max-length", int(1))];
        entries.extend(named.map(|name| ("x-queue-type", text(name))));
        let mut spec = QueueSpec {
            arguments: table(&entries),
            ..queue("q")
        };
        for expected in [expected, if_exclusive] {
            let found = driver.catalog.arguments_to_declare(&spec, rules);
            let kind = found.get("x-queue-type");
            assert_eq!(kind, expected.map(text), "{rules:?} {of_vhost:?} {named:?}");
            assert_eq!(found.get("x-max-length"), Some(int(1)));
            // As without it, where the default is not for such a queue.
            spec.exclusive = Some(connection(1, 1, 1));
        }
    }
}

#[test]
fn a_quorum_queue_may_be_declared_again_as_a_classic_one() {
    let mut driver = Driver::new();
    let quorum = [("x-queue-type", text("quorum")), ("x-expires", int(1000))];
    for (name, arguments) in [("quorum", &quorum[..]), ("classic", &[])] {
        driver.ok(CatalogCommand::DeclareQueue(QueueSpec {
            arguments: table(arguments),
            ..queue(name)
        }));
    }
    let expires = ("x-expires", int(1000));
    let classic = ("x-queue-type", text("classic"));
    for (name, arguments, strict, relaxed) in [
        ("quorum", vec![expires.clone()], false, true),
        (
            "quorum",
            vec![classic.clone(), expires.clone()],
            false,
            true,
        ),
        (
            "quorum",
            vec![("x-queue-mode", text("lazy")), expires.clone()],
            false,
            true,
        ),
        // Known to both types, and different.
        ("quorum", vec![classic.clone()], false, false),
        (
            "quorum",
            vec![("x-message-ttl", int(5)), expires.clone()],
            false,
            false,
        ),
        (
            "quorum",
            vec![("x-queue-type", text("stream")), expires],
            false,
            false,
        ),
        ("classic", vec![], true, true),
        (
            "classic",
            vec![("x-queue-type", text("quorum"))],
            false,
            false,
        ),
    ] {
        for (relaxed_redeclaration, fits) in [(false, strict), (true, relaxed)] {
            let rules = DeclareRules {
                relaxed_redeclaration,
                ..DeclareRules::default()
            };
            let mut spec = QueueSpec {
                arguments: table(&arguments),
                ..queue(name)
            };
            spec.arguments = driver.catalog.arguments_to_declare(&spec, rules);
            let found = driver.catalog.check_declare_queue(&spec);
            assert_eq!(found.is_ok(), fits, "{name} {arguments:?} {found:?}");
        }
    }
    let spec = QueueSpec {
        durable: false,
        ..queue("quorum")
    };
    let relaxed = DeclareRules {
        relaxed_redeclaration: true,
        ..DeclareRules::default()
    };
    let arguments = driver.catalog.arguments_to_declare(&spec, relaxed);
    let found = driver
        .catalog
        .check_declare_queue(&QueueSpec { arguments, ..spec });
    assert!(found.is_err(), "not durable");
}
