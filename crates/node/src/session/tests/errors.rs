//! What is refused, and how.

use super::TestNode;
use super::client::{consume, declare, text};
use amqp_codec::{FieldTable, FieldValue, Method, Properties, TableBuilder};
use bytes::Bytes;

#[tokio::test]
async fn channel_errors() {
    let node = TestNode::start();
    let no_queue = "NOT_FOUND - no queue 'none' in vhost '/'";
    let bind = |queue: &str, exchange: &str| Method::QueueBind {
        queue: text(queue),
        exchange: text(exchange),
        routing_key: text("k"),
        no_wait: false,
        arguments: FieldTable::default(),
    };
    let delete_queue = |queue: &str| Method::QueueDelete {
        queue: text(queue),
        if_unused: false,
        if_empty: true,
        no_wait: false,
    };
    let exchange = |name: &str, kind: &str, passive: bool| Method::ExchangeDeclare {
        exchange: text(name),
        kind: text(kind),
        passive,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: FieldTable::default(),
    };
    let mut of_a_stream = consume("full", "t", false);
    if let Method::BasicConsume { arguments, .. } = &mut of_a_stream {
        let mut table = TableBuilder::new();
        table.push("x-stream-offset", &FieldValue::text("last"));
        *arguments = table.finish();
    }
    let mut setup = node.channel().await;
    setup.declare(1, "full", false).await;
    setup.publish(1, "full", "x").await;
    setup.sync(1).await;
    for (method, code, expected) in [
        (consume("none", "t", false), 404, no_queue),
        (
            of_a_stream,
            406,
            "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'full' in vhost '/' of queue \
             type rabbit_classic_queue",
        ),
        (
            Method::BasicGet {
                queue: text("none"),
                no_ack: true,
            },
            404,
            no_queue,
        ),
        (
            Method::QueuePurge {
                queue: text("none"),
                no_wait: false,
            },
            404,
            no_queue,
        ),
        (
            Method::QueuePurge {
                queue: text(""),
                no_wait: false,
            },
            404,
            "NOT_FOUND - no previously declared queue",
        ),
        (bind("none", "amq.direct"), 404, no_queue),
        (
            bind("amq.rabbitmq.reply-to.nobody", "amq.direct"),
            403,
            "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue",
        ),
        (
            bind("amq.rabbitmq.reply-to.nobody", ""),
            403,
            "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue",
        ),
        (
            exchange("", "nonsense", false),
            406,
            "PRECONDITION_FAILED - unknown exchange type 'nonsense'",
        ),
        (
            bind("full", "none"),
            404,
            "NOT_FOUND - no exchange 'none' in vhost '/'",
        ),
        (
            bind("full", ""),
            403,
            "ACCESS_REFUSED - operation not permitted on the default exchange",
        ),
        (
            delete_queue("full"),
            406,
            "PRECONDITION_FAILED - queue 'full' in vhost '/' not empty",
        ),
        (
            declare("amq.mine", true),
            403,
            "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
        ),
        (
            declare("full", true),
            406,
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'full' in vhost '/': received 'true' but \
             current is 'false'",
        ),
        (
            exchange("none", "direct", true),
            404,
            "NOT_FOUND - no exchange 'none' in vhost '/'",
        ),
        (
            exchange("new", "nonsense", false),
            406,
            "PRECONDITION_FAILED - unknown exchange type 'nonsense'",
        ),
        (
            Method::BasicAck {
                delivery_tag: 7,
                multiple: false,
            },
            406,
            "PRECONDITION_FAILED - unknown delivery tag 7",
        ),
        (
            Method::TxCommit {},
            406,
            "PRECONDITION_FAILED - channel is not transactional",
        ),
    ] {
        let mut client = node.channel().await;
        client.send(1, &method).await;
        let ids = (method.class_id(), method.method_id());
        assert_eq!(
            client.channel_error(1).await,
            (code, expected.to_owned(), ids)
        );
        // The number is free again.
        client.open_channel(1).await;
        client.close().await;
    }
}

#[tokio::test]
async fn connection_errors() {
    let node = TestNode::start();
    for (method, code, expected) in [
        (
            Method::ChannelFlow { active: false },
            540,
            "NOT_IMPLEMENTED - active=false",
        ),
        (
            Method::BasicRecover { requeue: false },
            540,
            "NOT_IMPLEMENTED - requeue=false",
        ),
        (
            Method::BasicQos {
                prefetch_size: 9,
                prefetch_count: 0,
                global: false,
            },
            540,
            "NOT_IMPLEMENTED - prefetch_size!=0 (9)",
        ),
        (
            consume("q", "twice", false),
            530,
            "NOT_ALLOWED - attempt to reuse consumer tag 'twice'",
        ),
    ] {
        let mut client = node.channel().await;
        client.declare(1, "q", false).await;
        client.consume(1, "q", "twice", false).await;
        client.send(1, &method).await;
        let ids = (method.class_id(), method.method_id());
        assert_eq!(
            client.connection_error().await,
            (code, expected.to_owned(), ids)
        );
    }
}

#[tokio::test]
async fn refused_publishes() {
    let node = TestNode::start();
    for (exchange, properties, code, expected) in [
        (
            "none",
            Properties::default(),
            404,
            "NOT_FOUND - no exchange 'none' in vhost '/'",
        ),
        (
            "amq.rabbitmq.trace",
            Properties::default(),
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
        ),
        (
            "",
            Properties {
                expiration: Some(Bytes::from_static(b"soon")),
                ..Properties::default()
            },
            406,
            "PRECONDITION_FAILED - invalid expiration 'soon': no_integer",
        ),
        (
            "",
            Properties {
                user_id: Some(Bytes::from_static(b"eve")),
                ..Properties::default()
            },
            406,
            "PRECONDITION_FAILED - user_id property set to 'eve' but authenticated user was 'guest'",
        ),
        (
            "",
            Properties {
                reply_to: Some(Bytes::from_static(b"amq.rabbitmq.reply-to")),
                ..Properties::default()
            },
            406,
            "PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
    ] {
        let mut client = node.channel().await;
        client.queue_content(1, exchange, "k", &properties, b"x", false);
        // What follows on a channel that fails is not acted on.
        client.queue(1, &declare("never", false));
        client.flush().await;
        assert_eq!(
            client.channel_error(1).await,
            (code, expected.to_owned(), (60, 40))
        );
        client.close().await;
    }
    assert!(!node.has_queue("never"));
}

#[tokio::test]
async fn refused_logins() {
    let node = TestNode::start_with(|config| {
        config.timing.login_failure_delay = std::time::Duration::from_millis(50);
    });
    let mut client = node.connect_raw();
    client.handshake_as("guest", "wrong").await;
    let expected = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                    broker logfile.";
    let heard = client.hear().await;
    assert!(
        matches!(&heard.method, Method::ConnectionClose { reply_code: 403, reply_text, .. } if reply_text == expected)
    );
    assert!(client.ends().await);

    let mut client = node.connect_raw();
    client.handshake_as("guest", "guest").await;
    client
        .expect(|method| matches!(method, Method::ConnectionTune { .. }))
        .await;
    client
        .send(
            0,
            &Method::ConnectionTuneOk {
                channel_max: 1,
                frame_max: 4096,
                heartbeat: 0,
            },
        )
        .await;
    client
        .send(
            0,
            &Method::ConnectionOpen {
                virtual_host: text("nope"),
            },
        )
        .await;
    let (code, expected, ids) = client.connection_error().await;
    assert_eq!(
        (code, &expected[..], ids),
        (530, "NOT_ALLOWED - vhost nope not found", (10, 40))
    );
}

#[tokio::test]
async fn a_limit_of_queues() {
    let node = TestNode::start_with(|config| config.limits.queues = Some(1));
    let mut client = node.channel().await;
    client.declare(1, "a", true).await;
    client.declare(1, "a", true).await;
    client.send(1, &declare("b", false)).await;
    let (code, text, _) = client.channel_error(1).await;
    let expected =
        "PRECONDITION_FAILED - cannot declare queue 'b': queue limit in cluster (1) is reached";
    assert_eq!((code, text.as_str()), (406, expected));
    // Direct replies are none of it.
    client.open_channel(1).await;
    client
        .consume(1, "amq.rabbitmq.reply-to", "replies", true)
        .await;
}
