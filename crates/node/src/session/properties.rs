//! What the broker looks at in the properties of a publish.

use amqp_codec::{
    FieldTable, FieldValue, PropertiesView, Property, ReplyCode, Rewrite, TableBuilder,
};
use amqp_connection::ProtocolError;
use bytes::Bytes;
use std::borrow::Cow;

/// Upper bound of times to live, ms.
const TIME_MAX_MS: u64 = broker_model::catalog::TIME_MAX_MS.unsigned_abs();

/// The properties that matter for routing and queues.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Looked {
    pub(super) priority: Option<u8>,
    pub(super) expiration_ms: Option<u64>,
    /// More routing keys (`CC` and `BCC`).
    pub(super) more_keys: Vec<String>,
    /// There is a `BCC` header to take out.
    pub(super) has_bcc: bool,
    /// `reply_to` asks for direct replies.
    pub(super) direct_reply: bool,
}

/// Looks at the properties of a publish of `user`; `may_impersonate` lets it name another one.
///
/// # Errors
/// 406 for an expiration that is no time, `CC` or `BCC` that are no lists, somebody else's name.
pub(super) fn look(
    raw: &Bytes,
    user: &str,
    may_impersonate: bool,
) -> Result<Looked, ProtocolError> {
    let view = PropertiesView::new(raw);
    let mut looked = Looked::default();
    // Most publishes have none of these: the flag word tells at once.
    if view.has(Property::Priority) {
        looked.priority = view.priority();
    }
    if view.has(Property::ReplyTo) {
        looked.direct_reply = view.reply_to() == Some(super::reply_to::PSEUDO_QUEUE.as_bytes());
    }
    if let Some(text) = view.expiration() {
        looked.expiration_ms = Some(expiration(text)?);
    }
    if view.has(Property::Headers)
        && let Some(headers) = view.headers()
    {
        more_keys(&headers, "CC", &mut looked.more_keys)?;
        looked.has_bcc = more_keys(&headers, "BCC", &mut looked.more_keys)?;
    }
    if let Some(named) = view.user_id()
        && named != user.as_bytes()
        && !may_impersonate
    {
        let named = String::from_utf8_lossy(named);
        return Err(precondition(format!(
            "user_id property set to '{named}' but authenticated user was '{user}'"
        )));
    }
    Ok(looked)
}

/// What somebody who gets a message is told of its properties: all but `BCC`, which is kept where a dead letter
/// goes by it.
pub(super) fn told(raw: &Bytes) -> Cow<'_, Bytes> {
    // As it stands in a table of headers: name and type.
    const BCC: &[u8] = b"\x03BCCA";
    // Most messages have none: it is not worth reading their headers.
    let has_bcc = PropertiesView::new(raw).has(Property::Headers)
        && raw.windows(BCC.len()).any(|window| window == BCC);
    if has_bcc {
        Cow::Owned(without_bcc(raw))
    } else {
        Cow::Borrowed(raw)
    }
}

/// The properties without the `BCC` header.
pub(super) fn without_bcc(raw: &Bytes) -> Bytes {
    let Some(headers) = PropertiesView::new(raw).headers() else {
        return raw.clone();
    };
    let rest = TableBuilder::from_table_without(&headers, &["BCC"]).finish();
    Rewrite::new(raw).headers(Some(rest)).finish()
}

/// The properties with another `reply_to`.
pub(super) fn with_reply_to(raw: &Bytes, reply_to: &str) -> Bytes {
    Rewrite::new(raw)
        .reply_to(Some(Bytes::copy_from_slice(reply_to.as_bytes())))
        .finish()
}

/// The properties with the `x-delivery-count` header.
pub(super) fn with_delivery_count(raw: &Bytes, count: u32) -> Bytes {
    with_number(raw, "x-delivery-count", i64::from(count))
}

/// The properties with the `x-stream-offset` header.
pub(super) fn with_stream_offset(raw: &Bytes, offset: u64) -> Bytes {
    with_number(raw, "x-stream-offset", offset.cast_signed())
}

fn with_number(raw: &Bytes, header: &str, number: i64) -> Bytes {
    let headers = PropertiesView::new(raw).headers().unwrap_or_default();
    let headers = TableBuilder::from_table(&headers)
        .set(header, &FieldValue::I64(number))
        .finish();
    Rewrite::new(raw).headers(Some(headers)).finish()
}

/// Adds the strings of a list header; other elements are ignored. Returns whether it is there.
fn more_keys(
    headers: &FieldTable,
    name: &str,
    keys: &mut Vec<String>,
) -> Result<bool, ProtocolError> {
    match headers.get(name) {
        None => Ok(false),
        Some(FieldValue::Array(list)) => {
            let texts = list
                .iter()
                .filter_map(|value| value.as_text().map(str::to_owned));
            keys.extend(texts.filter(|key| key.len() <= 255));
            Ok(true)
        }
        Some(other) => {
            let kind = other.type_name();
            Err(precondition(format!(
                "invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}"
            )))
        }
    }
}

fn expiration(text: &[u8]) -> Result<u64, ProtocolError> {
    let text = String::from_utf8_lossy(text);
    let invalid = |why: String| precondition(format!("invalid expiration '{text}': {why}"));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(invalid("no_integer".to_owned()));
    }
    let (number, rest) = unsigned.split_at(digits);
    if !rest.is_empty() {
        return Err(invalid(format!("{{leftover_string,\"{rest}\"}}")));
    }
    let is_zero = number.bytes().all(|digit| digit == b'0');
    if text.starts_with('-') && !is_zero {
        return Err(invalid(format!("{{value_negative,{text}}}")));
    }
    match number.parse::<u64>() {
        Ok(ms) if ms <= TIME_MAX_MS => Ok(ms),
        _ => Err(invalid(format!("{{value_too_large,{number}}}"))),
    }
}

fn precondition(text: String) -> ProtocolError {
    ProtocolError::new(ReplyCode::PRECONDITION_FAILED, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use amqp_codec::{FieldArray, Properties};

    fn encoded(properties: &Properties) -> Bytes {
        properties.encode()
    }

    fn expiring(text: &str) -> Bytes {
        encoded(&Properties {
            expiration: Some(Bytes::copy_from_slice(text.as_bytes())),
            ..Properties::default()
        })
    }

    #[test]
    fn expirations() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("60000", Ok(60_000)),
            ("", Err("invalid expiration '': no_integer")),
            ("abc", Err("invalid expiration 'abc': no_integer")),
            (
                "10ms",
                Err("invalid expiration '10ms': {leftover_string,\"ms\"}"),
            ),
            ("-1", Err("invalid expiration '-1': {value_negative,-1}")),
            (
                "315360000001",
                Err("invalid expiration '315360000001': {value_too_large,315360000001}"),
            ),
            (
                "99999999999999999999999",
                Err(
                    "invalid expiration '99999999999999999999999': {value_too_large,99999999999999999999999}",
                ),
            ),
        ] {
            let looked = look(&expiring(text), "guest", false);
            match expected {
                Ok(ms) => assert_eq!(looked.unwrap().expiration_ms, Some(ms)),
                Err(text) => assert_eq!(looked.unwrap_err().text, text),
            }
        }
    }

    #[test]
    fn user_id_must_be_true() {
        let raw = encoded(&Properties {
            user_id: Some(Bytes::from_static(b"x")),
            ..Properties::default()
        });
        assert!(look(&raw, "x", false).is_ok());
        assert!(look(&raw, "guest", true).is_ok());
        assert_eq!(
            look(&raw, "guest", false).unwrap_err().text,
            "user_id property set to 'x' but authenticated user was 'guest'"
        );
    }

    #[test]
    fn cc_and_bcc() {
        let keys = |keys: &[&str]| {
            FieldValue::Array(
                keys.iter()
                    .map(|key| FieldValue::text(key))
                    .collect::<FieldArray>(),
            )
        };
        let mut headers = TableBuilder::new();
        headers
            .push("CC", &keys(&["a", "b"]))
            .push("BCC", &keys(&["c"]))
            .push("other", &FieldValue::Void);
        let raw = encoded(&Properties {
            headers: Some(headers.finish()),
            ..Properties::default()
        });
        let looked = look(&raw, "guest", false).unwrap();
        assert_eq!(looked.more_keys, ["a", "b", "c"]);
        assert!(looked.has_bcc);
        let stripped = without_bcc(&raw);
        assert_eq!(*told(&raw), stripped);
        assert!(matches!(told(&stripped), Cow::Borrowed(same) if *same == stripped));
        let headers = PropertiesView::new(&stripped).headers().unwrap();
        assert!(
            headers.contains_key("CC")
                && headers.contains_key("other")
                && !headers.contains_key("BCC")
        );

        let mut headers = TableBuilder::new();
        headers.push("CC", &FieldValue::text("a"));
        let raw = encoded(&Properties {
            headers: Some(headers.finish()),
            ..Properties::default()
        });
        assert_eq!(
            look(&raw, "guest", false).unwrap_err().text,
            "invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
    }

    #[test]
    fn delivery_count_is_added_or_replaced() {
        let raw = encoded(&Properties::default());
        let once = with_delivery_count(&raw, 1);
        let twice = with_delivery_count(&once, 2);
        let headers = PropertiesView::new(&twice).headers().unwrap();
        assert_eq!(headers.get("x-delivery-count"), Some(FieldValue::I64(2)));
        assert_eq!(headers.iter().count(), 1);
    }
}
