//! From URIs to an open connection.

use super::{Dial, shuffled};
use crate::client::{Client, Error, Hello, Login, Wire};
use crate::config::Protocol;
use crate::tls;
use crate::uri::{Host, Mechanism, Uri};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Connects to one of the brokers; what is shown of it comes along.
pub(super) async fn any(
    uris: &[Uri],
    protocol: Protocol,
    name: &str,
    dial: &dyn Dial,
) -> Result<(Client, String), String> {
    let mut failed = "there is no URI".to_owned();
    for uri in shuffled(uris) {
        match timeout(uri.connect, one(uri, protocol, name, dial)).await {
            Ok(Ok(client)) => return Ok((client, uri.shown.clone())),
            Ok(Err(reason)) => failed = reason,
            Err(_) => failed = Error::Timeout.to_string(),
        }
    }
    Err(failed)
}

async fn one(uri: &Uri, protocol: Protocol, name: &str, dial: &dyn Dial) -> Result<Client, String> {
    let host = uri.host.as_ref().filter(|_| protocol != Protocol::Local);
    let plain = |user: &str, password: &str| Login::Plain {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let user = uri.user.as_deref();
    let password = uri.password.as_deref();
    let (stream, logins) = match host {
        Some(host) => {
            let stream = reach(host).await?;
            let login = plain(user.unwrap_or_default(), password.unwrap_or_default());
            let logins = uri.mechanisms.iter().map(|mechanism| match mechanism {
                Mechanism::Plain => login.clone(),
                Mechanism::External => Login::External,
            });
            (stream, logins.collect())
        }
        None => {
            let stream = dial.dial(&uri.vhost, user, password.is_some()).await?;
            // Where no password is shown the session knows who it is.
            let login = plain(user.unwrap_or_default(), password.unwrap_or_default());
            (stream, vec![login])
        }
    };
    let hello = Hello {
        logins,
        vhost: &uri.vhost,
        name,
        heartbeat_s: host.map_or(0, |_| uri.heartbeat_s),
        frame_max: uri.frame_max,
        channel_max: uri.channel_max,
    };
    Client::open(stream, &hello)
        .await
        .map_err(|error| error.to_string())
}

async fn reach(host: &Host) -> Result<Box<dyn Wire>, String> {
    let stream = TcpStream::connect((host.name.as_str(), host.port))
        .await
        .map_err(|error| error.to_string())?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    Ok(match &host.tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tls::connect(stream, host, tls).await?),
    })
}
