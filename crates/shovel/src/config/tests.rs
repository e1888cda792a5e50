use super::*;
use serde_json::json;

fn errors(value: &Value) -> Vec<String> {
    let access = Access::User {
        name: "anna",
        may_open: &|vhost| vhost == "/" || vhost == "shop",
    };
    validate("s", value, &access)
}

/// The smallest one, with something changed.
fn with(changes: Value) -> Value {
    let mut value = json!({
        "src-uri": "amqp://", "src-queue": "a", "dest-uri": "amqp://h", "dest-queue": "b",
    });
    let fields = value.as_object_mut().unwrap();
    for (key, change) in changes.as_object().unwrap() {
        if change.is_null() {
            fields.remove(key);
        } else {
            fields.insert(key.clone(), change.clone());
        }
    }
    value
}

#[test]
fn accepted() {
    for changes in [
        json!({}),
        json!({ "src-queue": null, "src-exchange": "e", "src-exchange-key": "k" }),
        json!({ "dest-queue": null }),
        json!({ "dest-queue": null, "dest-exchange": "e", "dest-exchange-key": "k" }),
        json!({ "src-uri": ["amqp:///shop", "amqps://u:p@h:1/v?verify=verify_none"] }),
        json!({ "src-protocol": "amqp091", "dest-protocol": "local" }),
        json!({ "ack-mode": "no-ack", "src-delete-after": "queue-length" }),
        json!({ "src-delete-after": 0, "delete-after": "never", "src-delete-after-duration": 5 }),
        json!({ "prefetch-count": 1, "src-prefetch-count": 2, "reconnect-delay": 0 }),
        json!({ "add-forward-headers": true, "dest-add-timestamp-header": false }),
        json!({ "dest-publish-properties": { "delivery_mode": 2, "app_id": "x" } }),
        json!({ "src-queue-args": { "x-queue-type": "quorum" }, "src-consumer-args": [] }),
        json!({ "internal": true,
                "internal_owner": { "name": "q", "kind": "queue", "virtual_host": "/" } }),
    ] {
        assert_eq!(errors(&with(changes.clone())), [""; 0], "{changes}");
        assert!(Definition::parse("s", &with(changes)).is_ok());
    }
}

#[test]
fn refused_as_by_rabbitmq() {
    for (changes, expected) in [
        (
            json!({ "src-queue": null }),
            "Must specify 'src-exchange' or 'src-queue'",
        ),
        (
            json!({ "src-exchange": "e" }),
            "Cannot specify 'src-exchange' and 'src-queue'",
        ),
        (
            json!({ "dest-exchange": "e" }),
            "Cannot specify 'dest-exchange' and 'dest-queue'",
        ),
        (
            json!({ "ack-mode": "no-ack", "delete-after": 5 }),
            "Cannot specify 'no-ack' and numerical 'delete-after'",
        ),
        (json!({ "src-uri": null }), "Key \"src-uri\" not found in s"),
        (
            json!({ "dest-uri": null }),
            "Key \"dest-uri\" not found in s",
        ),
        (
            json!({ "colour": "red" }),
            "Unrecognised terms [{<<\"colour\">>,<<\"red\">>}] in s",
        ),
        (
            json!({ "ack-mode": "later" }),
            "ack-mode should be one of [<<\"no-ack\">>,<<\"on-publish\">>,<<\"on-confirm\">>], actually was <<\"later\">>",
        ),
        (
            json!({ "ack-mode": 1 }),
            "ack-mode should be binary, actually was 1",
        ),
        (
            json!({ "src-protocol": "stomp" }),
            "src-protocol should be one of [<<\"amqp091\">>,<<\"amqp10\">>,<<\"local\">>], actually was <<\"stomp\">>",
        ),
        (
            json!({ "dest-protocol": "amqp10" }),
            "dest-protocol amqp10 is not supported: Warren's shovels speak amqp091",
        ),
        (
            json!({ "reconnect-delay": "5" }),
            "reconnect-delay should be a number, actually was <<\"5\">>",
        ),
        (
            json!({ "src-predeclared": "yes" }),
            "src-predeclared should be boolean, actually was <<\"yes\">>",
        ),
        (
            json!({ "src-queue": 5 }),
            "src-queue should be binary, actually was 5",
        ),
        (
            json!({ "dest-queue": "q".repeat(256) }),
            "dest-queue should be less than 255 bytes, actually was 256",
        ),
        (
            json!({ "src-delete-after": "later" }),
            "src-delete-after should be a number greater than or equal to 0, \"never\" or \"queue-length\", actually was <<\"later\">>",
        ),
        (
            json!({ "src-delete-after": -1 }),
            "src-delete-after should be a number greater than or equal to 0, \"never\" or \"queue-length\", actually was -1",
        ),
        (
            json!({ "src-delete-after-duration": 0 }),
            "src-delete-after-duration should be a positive integer (seconds), actually was 0",
        ),
        (
            json!({ "dest-publish-properties": { "colour": 1 } }),
            "Unrecognised terms [{<<\"colour\">>,1}] in dest-publish-properties",
        ),
        (
            json!({ "dest-publish-properties": { "delivery_mode": "2" } }),
            "delivery_mode should be a number, actually was <<\"2\">>",
        ),
        (
            json!({ "dest-publish-properties": 3 }),
            "dest-publish-properties not a list 3",
        ),
        (
            json!({ "src-uri": "http://u:secret@h" }),
            "\"http://h\" not a valid URI: {{unexpected_uri_scheme,\"http\"},\"http://h\"}",
        ),
        (
            json!({ "src-uri": 5 }),
            "src-uri should be list, actually was 5",
        ),
        (
            json!({ "src-uri": [5] }),
            "src-uri should be list, actually was 5",
        ),
        (
            json!({ "src-uri": ["amqp://", "amqp:///secret"] }),
            "user \"anna\" may not connect to vhost \"secret\"",
        ),
        (
            json!({ "dest-uri": "amqp://admin@/secret" }),
            "user \"anna\" may not connect to vhost \"secret\"",
        ),
        (
            json!({ "src-queue-args": 1 }),
            "src-queue-args should be a map, actually was 1",
        ),
    ] {
        assert_eq!(errors(&with(changes.clone())), [expected], "{changes}");
    }
    assert_eq!(errors(&json!(5)), ["s not a list 5"]);
    assert_eq!(
        errors(&json!({ "x": 1 })),
        [
            "Must specify 'src-exchange' or 'src-queue'",
            "Unrecognised terms [{<<\"x\">>,1}] in s",
            "Key \"dest-uri\" not found in s",
            "Key \"src-uri\" not found in s",
        ]
    );
}

#[test]
fn meaning() {
    let older = Definition::parse(
        "s",
        &with(
            json!({ "prefetch-count": 7, "delete-after": 9, "add-forward-headers": true,
                      "add-timestamp-header": true, "publish-properties": { "type": "t" },
                      "reconnect-delay": 0, "ack-mode": "on-publish" }),
        ),
    )
    .unwrap();
    assert_eq!(older.source.prefetch, 7);
    assert_eq!(older.source.delete_after, DeleteAfter::Count(9));
    assert!(older.destination.forward_headers && older.destination.timestamp_header);
    assert_eq!(
        older.destination.properties.kind.as_deref(),
        Some(&b"t"[..])
    );
    assert_eq!(
        (older.reconnect_delay, older.ack_mode),
        (None, AckMode::OnPublish)
    );

    let plain = Definition::parse("s", &with(json!({}))).unwrap();
    assert_eq!(plain.source.prefetch, 1000);
    assert_eq!(plain.reconnect_delay, Some(Duration::from_secs(5)));
    assert_eq!(plain.ack_mode, AckMode::OnConfirm);
    let to = plain.destination;
    assert_eq!(
        (to.exchange, to.key),
        (Some("".try_into().unwrap()), Some("b".try_into().unwrap()))
    );

    let through = Definition::parse("s", &with(json!({ "dest-queue": null }))).unwrap();
    let to = through.destination;
    assert_eq!((to.exchange, to.key), (None, None));

    let unlimited = Definition::parse("s", &with(json!({ "src-prefetch-count": 0 }))).unwrap();
    assert_eq!(unlimited.source.prefetch, u16::MAX, "memory is bounded");

    for (ack_mode, after, acknowledges) in [
        ("no-ack", "never", false),
        ("no-ack", "queue-length", true),
        ("on-publish", "never", true),
    ] {
        let value = with(json!({ "ack-mode": ack_mode, "src-delete-after": after }));
        let definition = Definition::parse("s", &value).unwrap();
        assert_eq!(
            definition.acknowledges(),
            acknowledges,
            "{ack_mode} {after}"
        );
    }
}

#[test]
fn closed_vhosts_are_found_in_whatever_is_brought() {
    let may_open = |vhost: &str| vhost == "/";
    for (value, expected) in [
        (
            json!({ "src-uri": "amqp://", "dest-uri": "amqp://h/secret" }),
            None,
        ),
        (
            json!({ "src-uri": "amqp:///secret", "src-protocol": "amqp10" }),
            Some("secret"),
        ),
        (
            json!({ "dest-uri": ["amqp://", "amqp://u@/other", "x"] }),
            Some("other"),
        ),
        (json!(5), None),
    ] {
        assert_eq!(
            closed_vhost(&value, &may_open).as_deref(),
            expected,
            "{value}"
        );
    }
}

#[test]
fn nothing_secret_is_shown() {
    let value = with(json!({ "src-uri": ["amqp://u:secret@h/v?x=1", "amqp://"],
                             "dest-uri": "amqp://u:secret@h" }));
    let shown = redacted(&value);
    assert_eq!(shown["src-uri"], json!(["amqp://h/v", "amqp://"]));
    assert_eq!(shown["dest-uri"], "amqp://h");
    assert_eq!(shown["src-queue"], "a");
    let definition = Definition::parse("s", &value).unwrap();
    assert!(!format!("{definition:?}").contains("secret"));
}
