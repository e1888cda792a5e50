//! Sessions of users that showed a token. Here these are written `token name scope scope …`.

use super::TestNode;
use super::client::{Client, declare, text};
use crate::identity::Identity;
use crate::oauth2::TokenUser;
use amqp_codec::Method;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The user of such a token; it may say `expires:1` for one second from now.
pub(super) fn user_of(token: &[u8]) -> Option<Identity> {
    let token = std::str::from_utf8(token).ok()?.strip_prefix("token ")?;
    let (name, scopes) = token.split_once(' ').unwrap_or((token, ""));
    let scopes: Vec<&str> = scopes.split(' ').collect();
    let expires = scopes
        .iter()
        .find_map(|scope| scope.strip_prefix("expires:"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let expires = expires.map(|left| now.as_secs() + left.parse::<u64>().unwrap());
    Some(Identity::of_token(TokenUser::made(name, &scopes, expires)))
}

async fn login(node: &Arc<TestNode>, token: &str) -> Client {
    let mut client = node.connect_raw();
    client.open_as("anybody", token).await;
    client.open_channel(1).await;
    client
}

async fn refresh(client: &mut Client, token: &'static str) {
    let update = Method::ConnectionUpdateSecret {
        new_secret: Bytes::from_static(token.as_bytes()),
        reason: text("it is time"),
    };
    client.send(0, &update).await;
}

fn refused(method: Method) -> String {
    match method {
        Method::ChannelClose { reply_text, .. } => reply_text.as_str().to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

/// Also where the catalog has somebody of that name, who may do everything.
#[tokio::test]
async fn the_token_decides_and_not_the_catalog() {
    let node = TestNode::start();
    let mut client = login(&node, "token guest configure:*/mine write:*/amq.default").await;
    client.call(1, &declare("mine", false)).await;
    client.send(1, &declare("other", false)).await;
    assert_eq!(
        refused(client.hear().await.method),
        "ACCESS_REFUSED - configure access to queue 'other' in vhost '/' refused for user 'guest'"
    );
}

/// What it published before is not remembered as permitted.
#[tokio::test]
async fn a_new_token_counts_from_then_on() {
    let node = TestNode::start();
    let mut client = login(&node, "token ann write:*/* configure:*/*").await;
    client.declare(1, "q", false).await;
    client.publish(1, "q", "one").await;
    client.sync(1).await;
    refresh(&mut client, "token ann read:*/q").await;
    assert_eq!(
        client.hear().await.method,
        Method::ConnectionUpdateSecretOk {}
    );
    client.publish(1, "q", "two").await;
    assert_eq!(
        refused(client.hear().await.method),
        "ACCESS_REFUSED - write access to exchange 'amq.default' in vhost '/' refused for user 'ann'"
    );
}

#[tokio::test]
async fn new_tokens_that_end_the_connection() {
    for (token, expected) in [
        (
            "token bob read:*/*",
            "NOT_ALLOWED - New secret was refused by one of the backends",
        ),
        (
            "guest",
            "NOT_ALLOWED - New secret was refused by one of the backends",
        ),
        (
            "nonsense",
            "NOT_ALLOWED - New secret was refused by one of the backends",
        ),
        (
            "token ann read:other/*",
            "NOT_ALLOWED - access to vhost '/' refused for user 'ann'",
        ),
    ] {
        let node = TestNode::start();
        let mut client = login(&node, "token ann read:*/*").await;
        refresh(&mut client, token).await;
        let found = client.connection_error().await;
        assert_eq!(found, (530, expected.to_owned(), (10, 70)), "{token}");
    }
}

#[tokio::test]
async fn the_connection_ends_when_its_token_does() {
    let node = TestNode::start();
    let mut ends = login(&node, "token ann read:*/* expires:1").await;
    let mut goes_on = login(&node, "token ann read:*/* expires:1").await;
    refresh(&mut goes_on, "token ann read:*/* expires:600").await;
    let updated = Method::ConnectionUpdateSecretOk {};
    assert_eq!(goes_on.hear().await.method, updated);
    let ended = tokio::time::timeout(Duration::from_secs(5), ends.connection_error()).await;
    let expected = "CONNECTION_FORCED - credential expired".to_owned();
    assert_eq!(ended.ok(), Some((320, expected, (0, 0))));
    goes_on.open_channel(2).await;
}
