//! Users and what they may do.

use super::*;
use crate::routing::Effort;

fn grant(configure: &str, write: &str, read: &str) -> CatalogCommand {
    CatalogCommand::SetPermissions(PermissionSpec {
        user: "guest".into(),
        vhost: "/".into(),
        configure: configure.into(),
        write: write.into(),
        read: read.into(),
    })
}

#[test]
fn expressions() {
    for (pattern, name, expected) in [
        ("", "", true),
        ("", "q", false),
        (".*", "q", true),
        ("q", "a queue", true), // A search, not a match of the whole name.
        ("^q$", "queue", false),
        ("^(a|b)$", "b", true),
        ("(", "(", false), // Does not compile: matches nothing.
        ("^(?!amq\\.).*", "jobs", true),
        ("^(?!amq\\.).*", "amq.gen-1", false),
        ("^(?!(amq\\.)|(.*_fanout_)|(reply_)).*", "reply_1", false),
        (
            "^(?!(amq\\.)|(.*_fanout_)|(reply_)).*",
            "cinder-volume",
            true,
        ),
        ("(?<=\\.)dlq$", "a.dlq", true),
        ("(?<=\\.)dlq$", "dlq", false),
        ("^(.)\\1$", "aa", true),
        ("^(.)\\1$", "ab", false),
        ("(?>a+)b", "aab", true),
        (
            "^(?!(a+)+$)",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
            true,
        ), // Still linear inside.
        (
            "^(a+)+\\1$",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
            false,
        ), // Given up.
    ] {
        assert_eq!(
            Pattern::new(pattern.into()).matches(name),
            expected,
            "{pattern:?} {name:?}"
        );
    }
    assert!(Pattern::check("(").is_err());
    assert!(Pattern::check("(a{1000}){1000}").is_err(), "too large");
    assert!(Pattern::check("(?!(a{1000}){1000})").is_err(), "too large");
    assert!(Pattern::check("(?!a").is_err());
    assert_eq!(Pattern::check("(?!a)"), Ok(()));
}

#[test]
fn refusals() {
    let mut driver = Driver::new();
    driver.ok(grant("^(?!their)mine", "^amq\\.default$", ""));
    let check = |permission, kind, name| {
        driver
            .catalog
            .check_permission("guest", "/", permission, kind, name)
            .map_err(|error| shown(&error))
    };
    assert_eq!(
        check(Permission::Configure, ResourceKind::Queue, "mine-1"),
        Ok(())
    );
    assert_eq!(check(Permission::Write, ResourceKind::Exchange, ""), Ok(()));
    for (permission, kind, name, text) in [
        (
            Permission::Configure,
            ResourceKind::Queue,
            "q",
            "configure access to queue 'q' in vhost '/'",
        ),
        (
            Permission::Write,
            ResourceKind::Exchange,
            "e",
            "write access to exchange 'e' in vhost '/'",
        ),
        (
            Permission::Read,
            ResourceKind::Exchange,
            "",
            "read access to exchange 'amq.default' in vhost '/'",
        ),
    ] {
        let expected = format!("403 {text} refused for user 'guest'");
        assert_eq!(check(permission, kind, name), Err(expected));
    }
    let stranger =
        driver
            .catalog
            .check_permission("nobody", "/", Permission::Read, ResourceKind::Queue, "q");
    assert!(stranger.is_err());
}

#[test]
fn topics() {
    let mut driver = Driver::new();
    let topic = driver
        .catalog
        .exchange("/", "amq.topic")
        .cloned()
        .expect("predeclared");
    let direct = driver
        .catalog
        .exchange("/", "amq.direct")
        .cloned()
        .expect("predeclared");
    let variables = TopicVariables {
        username: "guest",
        vhost: "/",
        client_id: "c.1",
    };
    let check = |driver: &Driver, exchange: &ExchangeRecord, permission, key| {
        driver.catalog.check_topic_permission(
            variables,
            permission,
            exchange,
            &[key],
            &mut Effort::at_once(),
        )
    };
    assert_eq!(
        check(&driver, &topic, Permission::Write, "any"),
        Ok(()),
        "nothing is set"
    );
    driver.ok(CatalogCommand::SetTopicPermissions(TopicPermissionSpec {
        user: "guest".into(),
        vhost: "/".into(),
        exchange: "amq.topic".into(),
        write: "^(?!x){username}\\.{client_id}\\.".into(),
        read: "^(?!b)".into(),
    }));
    assert_eq!(
        check(&driver, &topic, Permission::Write, "guest.c.1.x"),
        Ok(())
    );
    assert_eq!(
        check(&driver, &topic, Permission::Write, "guest.cx1.x").map_err(|e| shown(&e)),
        Err(
            "403 write access to topic 'guest.cx1.x' in exchange 'amq.topic' in vhost '/' refused \
             for user 'guest'"
                .into()
        ),
        "values are taken literally"
    );
    assert!(check(&driver, &topic, Permission::Read, "b").is_err());
    assert_eq!(check(&driver, &direct, Permission::Write, "b"), Ok(()));
    driver.ok(CatalogCommand::ClearTopicPermissions {
        user: "guest".into(),
        vhost: "/".into(),
        exchange: None,
    });
    assert_eq!(check(&driver, &topic, Permission::Read, "b"), Ok(()));
}

#[test]
fn users() {
    let mut driver = Driver::new();
    let user = |tags: &[&str]| {
        CatalogCommand::PutUser(UserSpec {
            name: "u".into(),
            password: PasswordHash {
                algorithm: PasswordAlgorithm::RabbitSha256,
                hash: bytes::Bytes::from_static(b"secret"),
            },
            tags: tags.iter().map(|tag| Name::from(*tag)).collect(),
        })
    };
    assert_eq!(driver.ok(user(&[])), CatalogAnswer::Done { created: true });
    let limits = Limits {
        max_connections: Some(3),
        ..Limits::default()
    };
    driver.ok(CatalogCommand::SetUserLimits {
        user: "u".into(),
        limits,
    });
    assert_eq!(
        driver.ok(user(&["monitoring"])),
        CatalogAnswer::Done { created: false }
    );
    let record = driver.catalog.user("u").expect("made");
    assert!(record.has_tag("monitoring"));
    assert_eq!(record.limits, limits, "a new password keeps limits");
    assert!(!format!("{record:?}").contains("secret"));
    driver.ok(CatalogCommand::DeleteUser { name: "u".into() });
    assert_eq!(
        driver.events,
        [CatalogEvent::UserDeleted { name: "u".into() }]
    );
    let missing = CatalogCommand::ClearPermissions {
        user: "u".into(),
        vhost: "/".into(),
    };
    assert_eq!(driver.refusal(missing), "404 no user 'u'");
}

#[test]
fn operators_mistakes() {
    let driver = Driver::new();
    for command in [
        grant("(", "", ""),
        CatalogCommand::PutVhost(VhostSpec::named("")),
        CatalogCommand::PutVhost(VhostSpec {
            default_queue_type: Some("nonsense".into()),
            ..VhostSpec::named("v")
        }),
        CatalogCommand::SetVhostLimits {
            vhost: "none".into(),
            limits: Limits::default(),
        },
        CatalogCommand::SetTopicPermissions(TopicPermissionSpec {
            user: "guest".into(),
            vhost: "/".into(),
            exchange: "e".into(),
            write: "({username}".into(),
            read: "".into(),
        }),
    ] {
        assert!(driver.catalog.check(&command).is_err(), "{command:?}");
    }
    assert_eq!(driver.catalog.check(&grant(".*", "^a", "")), Ok(()));
}

/// The expression is filled in once, and each key that it is tried on counts.
#[test]
fn topics_of_one_message_take_no_more_than_they_may() {
    let mut driver = Driver::new();
    driver.ok(CatalogCommand::SetTopicPermissions(TopicPermissionSpec {
        user: "guest".into(),
        vhost: "/".into(),
        exchange: "amq.topic".into(),
        write: "^{username}".into(),
        read: "(?<=guest)x".into(),
    }));
    let topic = driver.catalog.exchange("/", "amq.topic").cloned();
    let topic = topic.expect("predeclared");
    let variables = TopicVariables {
        username: "guest",
        vhost: "/",
        client_id: "",
    };
    let keys = vec!["guestx"; 4_000];
    let check = |permission, effort: &mut Effort| {
        let catalog = &driver.catalog;
        catalog.check_topic_permission(variables, permission, &topic, &keys, effort)
    };
    assert_eq!(check(Permission::Write, &mut Effort::at_once()), Ok(()));
    // One that goes back may take long, each time.
    let read = check(Permission::Read, &mut Effort::at_length());
    assert_eq!(read, Err(CatalogError::TooCostly));
}
