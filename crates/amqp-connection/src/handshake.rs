//! The handshake: protocol header, start, tune, open, and the driver's answers to it.

use std::time::Instant;

use amqp_codec::{
    FieldTable, FieldValue, Method, PROTOCOL_HEADER, ProtocolHeader, ReplyCode, ShortStr,
    TableBuilder, class, parse_protocol_header,
};
use bytes::{Bytes, BytesMut};

use crate::config::{Mechanism, ServerConfig};
use crate::connection::{Connection, State};
use crate::event::{CloseReason, Credentials, EndReason, Event, ProtocolError};
use crate::heartbeat::Heartbeat;

/// Who logs in with the mechanism `ANONYMOUS`.
const ANONYMOUS_USER: ShortStr = ShortStr::from_static("guest");

const START_OK: u16 = 11;
const TUNE_OK: u16 = 31;
/// `connection.open`.
pub(crate) const OPEN: u16 = 40;

/// Capabilities of the server, all true. pika refuses `confirm_delivery` without the first and the
/// third.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

impl Connection {
    /// Takes the protocol header; false until it has arrived.
    pub(crate) fn handle_protocol_header(&mut self, input: &mut BytesMut) -> bool {
        let version_minor = match parse_protocol_header(input) {
            None => return false,
            Some(ProtocolHeader::V091) => 9,
            Some(ProtocolHeader::V09) => 9,
            Some(ProtocolHeader::Other(_)) => {
                self.output.push(Bytes::from_static(&PROTOCOL_HEADER));
                self.end(EndReason::NotAmqp);
                return true;
            }
        };
        let mechanisms: Vec<_> = self.config.mechanisms.iter().map(|m| m.as_str()).collect();
        let start = Method::ConnectionStart {
            version_major: 0,
            version_minor,
            server_properties: server_properties(&self.config),
            mechanisms: Bytes::from(mechanisms.join(" ")),
            locales: Bytes::from_static(b"en_US"),
        };
        self.write_method(0, &start);
        self.state = State::AwaitingStartOk;
        true
    }

    /// All legal steps of channel 0.
    pub(crate) fn connection_method(
        &mut self,
        method: Method,
        now: Instant,
    ) -> Result<Option<Event>, ProtocolError> {
        let (class_id, method_id) = (method.class_id(), method.method_id());
        match (self.state, method) {
            (
                State::AwaitingStartOk,
                Method::ConnectionStartOk {
                    client_properties,
                    mechanism,
                    response,
                    ..
                },
            ) => {
                self.learn_client(&client_properties);
                let credentials = self.credentials(&mechanism, &response)?;
                self.state = State::Authenticating;
                Ok(Some(Event::Authenticate(credentials)))
            }
            (
                State::AwaitingTuneOk,
                Method::ConnectionTuneOk {
                    channel_max,
                    frame_max,
                    heartbeat,
                },
            ) => {
                self.tune(channel_max, frame_max, heartbeat, now)?;
                self.state = State::AwaitingOpen;
                Ok(None)
            }
            (State::AwaitingOpen, Method::ConnectionOpen { virtual_host }) => {
                self.state = State::Opening;
                Ok(Some(Event::OpenVhost(virtual_host.detached())))
            }
            (State::Open, Method::ConnectionUpdateSecret { new_secret, .. }) => Ok(Some(
                Event::UpdateSecret(Bytes::copy_from_slice(&new_secret)),
            )),
            (
                State::AwaitingStartOk | State::AwaitingTuneOk | State::AwaitingOpen | State::Open,
                Method::ConnectionClose {
                    reply_code,
                    reply_text,
                    ..
                },
            ) => {
                self.begin_client_close(now);
                let reason = CloseReason {
                    reply_code,
                    reply_text: reply_text.detached(),
                };
                Ok(Some(Event::CloseRequested(reason)))
            }
            _ => {
                let text = format!(
                    "unexpected method in connection state {}",
                    self.state_name()
                );
                Err(ProtocolError::new(ReplyCode::CHANNEL_ERROR, text).of(class_id, method_id))
            }
        }
    }

    fn learn_client(&mut self, properties: &FieldTable) {
        // Kept for the life of the connection: it must not keep a read buffer alive.
        self.client.properties = properties.detached();
        let properties = &self.client.properties;
        self.client.connection_name = properties
            .get("connection_name")
            .and_then(|name| name.as_text().map(str::to_owned));
        let capabilities = properties.get("capabilities");
        let has = |name| {
            capabilities
                .as_ref()
                .and_then(FieldValue::as_table)
                .and_then(|table| table.get(name))
                .and_then(|value| value.as_bool())
                .unwrap_or(false)
        };
        self.client.consumer_cancel_notify = has("consumer_cancel_notify");
        self.client.connection_blocked = has("connection.blocked");
        self.client.authentication_failure_close = has("authentication_failure_close");
        self.client.basic_nack = has("basic.nack");
        self.client.publisher_confirms = has("publisher_confirms");
    }

    fn credentials(
        &mut self,
        mechanism: &str,
        response: &[u8],
    ) -> Result<Credentials, ProtocolError> {
        let known = self
            .config
            .mechanisms
            .iter()
            .copied()
            .find(|known| known.as_str() == mechanism);
        let Some(known) = known else {
            let text = format!("unknown authentication mechanism '{mechanism}'");
            return Err(ProtocolError::new(ReplyCode::COMMAND_INVALID, text)
                .of(class::CONNECTION, START_OK));
        };
        self.client.mechanism = Some(known);
        let parsed = match known {
            Mechanism::Plain => plain(response),
            Mechanism::AmqPlain => amqplain(response),
            Mechanism::Anonymous => Some((ANONYMOUS_USER, Bytes::from_static(b"guest"))),
            Mechanism::External => return Ok(Credentials::External),
        };
        parsed
            .map(|(user, password)| Credentials::Password {
                mechanism: known,
                user,
                password,
            })
            .ok_or_else(|| {
                let text = format!("invalid response for authentication mechanism {mechanism}");
                ProtocolError::new(ReplyCode::SYNTAX_ERROR, text).of(class::CONNECTION, START_OK)
            })
    }

    /// Checks what the client chose; it must lie within what was proposed.
    fn tune(
        &mut self,
        channel_max: u16,
        frame_max: u32,
        heartbeat_s: u16,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let refuse = |name: &str, value: u32, relation: &str, limit: u32| {
            let no_limit = if value == 0 { " (no limit)" } else { "" };
            let text = format!(
                "negotiated {name} = {value}{no_limit} is {relation} allowed value ({limit})"
            );
            ProtocolError::new(ReplyCode::NOT_ALLOWED, text).of(class::CONNECTION, TUNE_OK)
        };
        let ours = self.config.channel_max;
        if ours > 0 && (channel_max == 0 || channel_max > ours) {
            return Err(refuse(
                "channel_max",
                channel_max.into(),
                "higher than the maximum",
                ours.into(),
            ));
        }
        let (least, most) = (ServerConfig::FRAME_MAX_LEAST, self.config.frame_max);
        if frame_max == 0 || frame_max > most {
            return Err(refuse(
                "frame_max",
                frame_max,
                "higher than the maximum",
                most,
            ));
        }
        if frame_max < least {
            return Err(refuse(
                "frame_max",
                frame_max,
                "lower than the minimum",
                least,
            ));
        }
        self.channel_max = channel_max;
        self.frame_max = frame_max as usize;
        self.heartbeat = Heartbeat::new(heartbeat_s, now);
        Ok(())
    }

    /// The credentials are good: the limits are proposed.
    pub fn authenticated(&mut self) {
        if self.state != State::Authenticating {
            return;
        }
        let tune = Method::ConnectionTune {
            channel_max: self.config.channel_max,
            frame_max: self.config.frame_max,
            heartbeat: self.config.heartbeat_s,
        };
        self.write_method(0, &tune);
        self.state = State::AwaitingTuneOk;
    }

    /// The credentials are bad. Whoever asked for it is told so after a third of the delay: at once would let one
    /// client guess as fast as passwords are verified, and some libraries do not wait for the whole of it. The
    /// socket is held until it is over in any case ([`Event::Ended`]).
    pub fn refuse_login(&mut self, now: Instant) {
        if self.state != State::Authenticating {
            return;
        }
        self.state = State::Refused;
        self.deadline = Some(now + self.config.refusal_delay);
        self.tell_refusal_at = self
            .client
            .authentication_failure_close
            .then(|| now + self.config.refusal_delay / 3);
    }

    /// Tells the client that its login was refused.
    pub(crate) fn tell_refusal(&mut self) {
        if self.state == State::Refused {
            let mechanism = self.client.mechanism.map_or("", Mechanism::as_str);
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. \
                 For details see the broker logfile."
            );
            self.write_close(&ProtocolError::new(ReplyCode::ACCESS_REFUSED, text));
        }
    }

    /// The virtual host is open, and with it the connection.
    pub fn vhost_opened(&mut self) {
        if self.state != State::Opening {
            return;
        }
        self.write_method(0, &Method::ConnectionOpenOk {});
        self.state = State::Open;
        self.deadline = None;
    }

    /// The error that refuses the virtual host, for [`Self::connection_error`].
    #[must_use]
    pub fn vhost_error(text: impl Into<String>) -> ProtocolError {
        ProtocolError::new(ReplyCode::NOT_ALLOWED, text).of(class::CONNECTION, OPEN)
    }

    /// The new secret is in force.
    pub fn secret_updated(&mut self) {
        if self.state == State::Open {
            self.write_method(0, &Method::ConnectionUpdateSecretOk {});
        }
    }
}

fn server_properties(config: &ServerConfig) -> FieldTable {
    let mut capabilities = TableBuilder::new();
    for name in CAPABILITIES {
        capabilities.push(name, &FieldValue::Bool(true));
    }
    let mut properties = TableBuilder::new();
    properties.push("capabilities", &FieldValue::Table(capabilities.finish()));
    for (key, value) in [
        ("cluster_name", &config.cluster_name),
        ("copyright", &config.copyright),
        ("information", &config.information),
        ("platform", &config.platform),
        ("product", &config.product),
        ("version", &config.version),
    ] {
        properties.push(key, &FieldValue::text(value));
    }
    properties.finish()
}

/// NUL user NUL password.
fn plain(response: &[u8]) -> Option<(ShortStr, Bytes)> {
    let rest = response.strip_prefix(b"\0")?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let (user, password) = rest.split_at_checked(end)?;
    let password = password.strip_prefix(b"\0")?;
    if password.contains(&0) {
        return None;
    }
    let user = ShortStr::from_utf8(Bytes::copy_from_slice(user)).ok()?;
    Some((user, Bytes::copy_from_slice(password)))
}

/// A field table without its length.
fn amqplain(response: &[u8]) -> Option<(ShortStr, Bytes)> {
    let table = FieldTable::from_raw(Bytes::copy_from_slice(response)).ok()?;
    let user = ShortStr::from_utf8(table.get("LOGIN")?.as_long_str()?.clone()).ok()?;
    Some((user, table.get("PASSWORD")?.as_long_str()?.clone()))
}
