//! Which node leads a queue.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;

use super::cluster::{Broker, Cluster};

/// The index of the node that leads `queue`, which has been declared over the first node.
pub(crate) fn of(cluster: &Cluster, queue: &str) -> anyhow::Result<usize> {
    match cluster.broker() {
        // Its default places the leader on the node that the client is connected to.
        Broker::RabbitMq(_) => Ok(0),
        Broker::Warren(_) if cluster.len() == 1 => Ok(0),
        Broker::Warren(_) => {
            let port = cluster.places().first().context("no node")?.management_port;
            let answer = request(port, queue).context("asking the management API")?;
            parse(&answer).with_context(|| format!("who leads '{queue}' is not in its record"))
        }
    }
}

fn request(port: u16, queue: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // 1.0, so that the answer ends with the connection. The login is guest:guest.
    write!(
        stream,
        "GET /api/queues/%2F/{queue} HTTP/1.0\r\nHost: localhost\r\n\
         Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The node's number is what follows the `@` of its name.
fn parse(answer: &str) -> Option<usize> {
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let record: serde_json::Value = serde_json::from_str(body).ok()?;
    let (_, number) = record.get("leader")?.as_str()?.rsplit_once('@')?;
    number.parse::<usize>().ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_in_the_record() {
        let answer = |body: &str| format!("HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\n{body}");
        for (body, expected) in [
            (r#"{"name":"q","leader":"warren@3"}"#, Some(2)),
            (r#"{"name":"q","leader":"warren@0"}"#, None),
            (r#"{"name":"q"}"#, None),
            ("no JSON", None),
        ] {
            assert_eq!(parse(&answer(body)), expected, "{body}");
        }
    }
}
