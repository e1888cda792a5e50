//! From a stream to an open virtual host.

use super::{Client, Error, Wire};
use amqp_codec::{
    FRAME_MIN_SIZE, FieldTable, FieldValue, FrameSink, Method, PROTOCOL_HEADER, ShortStr,
    TableBuilder,
};
use bytes::Bytes;
use std::time::Duration;

/// Larger frames are not asked for.
const FRAME_MAX: u32 = 128 * 1024;
/// A shovel needs three.
const CHANNEL_MAX: u16 = 16;

/// How the client shows who it is.
#[derive(Clone)]
pub enum Login {
    /// By name and password.
    Plain {
        /// Name.
        user: String,
        /// Password.
        password: String,
    },
    /// By its certificate.
    External,
}

/// What is told and asked for.
pub struct Hello<'a> {
    /// Ways to log in, the best first.
    pub logins: Vec<Login>,
    /// The virtual host.
    pub vhost: &'a str,
    /// Name of the connection.
    pub name: &'a str,
    /// Heartbeats, in seconds; 0: none.
    pub heartbeat_s: u16,
    /// Largest frame; 0: as large as both like.
    pub frame_max: u32,
    /// Largest channel number; 0: as large as both like.
    pub channel_max: u16,
}

impl Login {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::External => "EXTERNAL",
        }
    }

    fn response(&self) -> Bytes {
        match self {
            Self::Plain { user, password } => Bytes::from(format!("\0{user}\0{password}")),
            Self::External => Bytes::new(),
        }
    }
}

impl Client {
    /// Logs in and opens the virtual host. The caller bounds the time.
    ///
    /// # Errors
    /// The broker refuses, or is none.
    pub async fn open(stream: Box<dyn Wire>, hello: &Hello<'_>) -> Result<Self, Error> {
        let mut client = Self::new(stream);
        client.output().buffer().extend_from_slice(&PROTOCOL_HEADER);
        let Method::ConnectionStart { mechanisms, .. } = client.answer(0).await? else {
            return Err(Error::Unexpected("answer to the protocol header"));
        };
        let offered: Vec<&[u8]> = mechanisms.split(|byte| *byte == b' ').collect();
        let login = hello
            .logins
            .iter()
            .find(|login| offered.contains(&login.mechanism().as_bytes()))
            .ok_or(Error::NoMechanism)?;
        client.send(
            0,
            &Method::ConnectionStartOk {
                client_properties: properties(hello.name),
                mechanism: ShortStr::from_static(login.mechanism()),
                response: login.response(),
                locale: ShortStr::from_static("en_US"),
            },
        );
        let Method::ConnectionTune {
            channel_max,
            frame_max,
            heartbeat,
        } = client.answer(0).await?
        else {
            return Err(Error::Unexpected("answer to the login"));
        };
        let frame_max = smaller(smaller(frame_max, hello.frame_max), FRAME_MAX);
        let frame_max = frame_max.max(FRAME_MIN_SIZE as u32);
        let asked = smaller(u32::from(channel_max), u32::from(hello.channel_max));
        let channel_max = smaller(asked, u32::from(CHANNEL_MAX)) as u16;
        let heartbeat_s = match hello.heartbeat_s {
            0 => 0,
            asked => smaller(u32::from(heartbeat), u32::from(asked)) as u16,
        };
        client.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: heartbeat_s,
            },
        );
        client.frame_max = frame_max as usize;
        let heartbeat = Duration::from_secs(u64::from(heartbeat_s));
        client.heartbeat = (!heartbeat.is_zero()).then_some(heartbeat);
        let virtual_host = ShortStr::try_from(hello.vhost)?;
        match client
            .call(0, &Method::ConnectionOpen { virtual_host })
            .await?
        {
            Method::ConnectionOpenOk {} => Ok(client),
            _ => Err(Error::Unexpected("answer to connection.open")),
        }
    }
}

/// The smaller one; 0 stands for no limit.
fn smaller(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, other) | (other, 0) => other,
        (a, b) => a.min(b),
    }
}

fn properties(name: &str) -> FieldTable {
    let yes = FieldValue::Bool(true);
    let capabilities = TableBuilder::new()
        .push("publisher_confirms", &yes)
        .push("basic.nack", &yes)
        .push("consumer_cancel_notify", &yes)
        .push("connection.blocked", &yes)
        .push("authentication_failure_close", &yes)
        .push("exchange_exchange_bindings", &yes)
        .finish();
    TableBuilder::new()
        .push("product", &FieldValue::text("Warren"))
        .push("version", &FieldValue::text(env!("CARGO_PKG_VERSION")))
        .push("platform", &FieldValue::text("Rust"))
        .push("connection_name", &FieldValue::text(name))
        .push("capabilities", &FieldValue::Table(capabilities))
        .finish()
}
