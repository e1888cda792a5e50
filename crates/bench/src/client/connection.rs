//! Handshake, synchronous methods, and the socket for those who do the rest themselves.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use amqp_codec::{
    FieldTable, FieldValue, FrameKind, FrameSlice, Method, PROTOCOL_HEADER, ShortStr, TableBuilder,
    write_method,
};
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};

use super::{Input, Uri};

/// The one channel that every connection opens.
pub(crate) const CHANNEL: u16 = 1;

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) input: Input,
    pub(crate) frame_max: usize,
    output: BytesMut,
}

impl Connection {
    const TIMEOUT: Duration = Duration::from_secs(60);
    /// Reads and writes return this often, so that their thread sees that it shall stop.
    pub(crate) const TICK: Duration = Duration::from_millis(100);

    /// Connects and opens the virtual host.
    pub(crate) fn open(uri: &Uri, name: &str) -> anyhow::Result<Self> {
        Self::open_with(uri, name, Input::new())
    }

    /// The same with a buffer that was made before: where many connections are opened, making it would be most of the work.
    pub(crate) fn open_with(uri: &Uri, name: &str, input: Input) -> anyhow::Result<Self> {
        Self::handshake(uri, name, input).with_context(|| format!("connecting to {uri}"))
    }

    fn handshake(uri: &Uri, name: &str, input: Input) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((uri.host.as_str(), uri.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Self::TICK))?;
        stream.set_write_timeout(Some(Self::TICK))?;
        let mut connection = Self {
            stream,
            input,
            frame_max: amqp_codec::INITIAL_FRAME_MAX,
            output: BytesMut::new(),
        };
        connection.write_all(&PROTOCOL_HEADER)?;
        let Method::ConnectionStart { .. } = connection.receive()? else {
            bail!("the broker did not send connection.start");
        };
        connection.send(
            0,
            &Method::ConnectionStartOk {
                client_properties: client_properties(name),
                mechanism: ShortStr::from_static("PLAIN"),
                response: Bytes::from(format!("\0{}\0{}", uri.user, uri.password)),
                locale: ShortStr::from_static("en_US"),
            },
        )?;
        let Method::ConnectionTune {
            channel_max,
            frame_max,
            ..
        } = connection.receive()?
        else {
            bail!("the broker did not send connection.tune");
        };
        // A bench takes no pauses; without heartbeats the hot loops need no timers.
        connection.send(
            0,
            &Method::ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            },
        )?;
        connection.frame_max = frame_max as usize;
        connection.input.set_frame_max(connection.frame_max);
        let virtual_host = ShortStr::try_from(uri.vhost.as_str())?;
        connection.call(0, &Method::ConnectionOpen { virtual_host })?;
        Ok(connection)
    }

    /// Opens channel [`CHANNEL`].
    pub(crate) fn open_channel(&mut self) -> anyhow::Result<()> {
        self.call(CHANNEL, &Method::ChannelOpen {}).map(|_| ())
    }

    /// Sends a method and returns the method that answers it.
    pub(crate) fn call(&mut self, channel: u16, method: &Method) -> anyhow::Result<Method> {
        self.send(channel, method)?;
        self.receive().with_context(|| method.name())
    }

    /// Sends a method.
    pub(crate) fn send(&mut self, channel: u16, method: &Method) -> anyhow::Result<()> {
        self.output.clear();
        write_method(&mut self.output, channel, method);
        let output = std::mem::take(&mut self.output);
        let outcome = self.write_all(&output);
        self.output = output;
        outcome
    }

    /// Writes everything.
    fn write_all(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        write_all(&mut self.stream, bytes, Self::TIMEOUT, || false)?;
        Ok(())
    }

    /// Waits for the next method; anything but methods is passed over.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Method> {
        let since = Instant::now();
        loop {
            while let Some(frame) = self.input.next()? {
                if frame.kind != FrameKind::Method {
                    continue;
                }
                match checked_method(frame)? {
                    Method::ConnectionBlocked { .. } | Method::ConnectionUnblocked {} => {}
                    method => return Ok(method),
                }
            }
            match self.input.fill(&mut self.stream) {
                Ok(()) => {}
                Err(error) if is_tick(&error) => {
                    if since.elapsed() > Self::TIMEOUT {
                        bail!("no answer within {} s", Self::TIMEOUT.as_secs());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Closes in order.
    pub(crate) fn close(mut self) -> anyhow::Result<()> {
        self.send(
            0,
            &Method::ConnectionClose {
                reply_code: 200,
                reply_text: ShortStr::from_static("Goodbye"),
                class_id: 0,
                method_id: 0,
            },
        )?;
        while self.receive()? != (Method::ConnectionCloseOk {}) {}
        Ok(())
    }
}

/// Decodes a method; one that closes something is an error.
pub(crate) fn checked_method(frame: FrameSlice<'_>) -> anyhow::Result<Method> {
    match Method::decode(Bytes::copy_from_slice(frame.payload))? {
        Method::ConnectionClose {
            reply_code,
            reply_text,
            ..
        } => {
            bail!("the broker closed the connection: {reply_code} {reply_text}")
        }
        Method::ChannelClose {
            reply_code,
            reply_text,
            ..
        } => {
            bail!("the broker closed the channel: {reply_code} {reply_text}")
        }
        method => Ok(method),
    }
}

/// Whether a read or write only ran into [`Connection::TICK`].
pub(crate) fn is_tick(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

/// Writes everything; gives up when asked to, or when nothing has moved for `patience`.
pub(crate) fn write_all(
    stream: &mut TcpStream,
    mut bytes: &[u8],
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut stuck_since = None;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                stuck_since = None;
            }
            Err(error) if is_tick(&error) => {
                let since = *stuck_since.get_or_insert_with(Instant::now);
                if give_up() || since.elapsed() > patience {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn client_properties(name: &str) -> FieldTable {
    let yes = FieldValue::Bool(true);
    let capabilities = TableBuilder::new()
        .push("publisher_confirms", &yes)
        .push("basic.nack", &yes)
        .push("consumer_cancel_notify", &yes)
        .push("connection.blocked", &yes)
        .push("authentication_failure_close", &yes)
        .finish();
    TableBuilder::new()
        .push("product", &FieldValue::text("warren-bench"))
        .push("version", &FieldValue::text(env!("CARGO_PKG_VERSION")))
        .push("connection_name", &FieldValue::text(name))
        .push("capabilities", &FieldValue::Table(capabilities))
        .finish()
}
