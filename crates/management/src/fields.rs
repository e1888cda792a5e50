//! Field tables and message properties as JSON, and back.

use bytes::Bytes;
use node::amqp_codec::{FieldArray, FieldTable, FieldValue, Properties, TableBuilder};
use serde_json::{Map, Number, Value};

/// JSON is nested no deeper than this; a body that is, is refused.
const NESTING_MAX: usize = 32;

/// A table as a JSON object; of equal keys the last counts.
pub(crate) fn table_to_json(table: &FieldTable) -> Value {
    Value::Object(
        table
            .iter()
            .map(|entry| (entry.key().to_string(), to_json(&entry.value())))
            .collect(),
    )
}

fn to_json(value: &FieldValue) -> Value {
    match value {
        FieldValue::Bool(value) => Value::Bool(*value),
        FieldValue::F32(value) => float(f64::from(*value)),
        FieldValue::F64(value) => float(*value),
        FieldValue::Decimal { scale, value } => {
            float(f64::from(*value) / 10f64.powi(i32::from(*scale)))
        }
        FieldValue::LongStr(bytes) | FieldValue::ByteArray(bytes) => text(bytes),
        FieldValue::Array(array) => {
            Value::Array(array.iter().map(|value| to_json(&value)).collect())
        }
        FieldValue::Timestamp(value) => Value::from(*value),
        FieldValue::Table(table) => table_to_json(table),
        FieldValue::Void => Value::Null,
        FieldValue::I8(_)
        | FieldValue::U8(_)
        | FieldValue::I16(_)
        | FieldValue::U16(_)
        | FieldValue::I32(_)
        | FieldValue::U32(_)
        | FieldValue::I64(_)
        | FieldValue::I64Upper(_) => Value::from(value.as_integer().unwrap_or_default()),
    }
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Bytes as text; what is not UTF-8 is replaced.
pub(crate) fn text(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

/// A JSON object as a table.
pub(crate) fn json_to_table(object: &Map<String, Value>) -> Result<FieldTable, String> {
    nested_table(object, 0)
}

fn nested_table(object: &Map<String, Value>, depth: usize) -> Result<FieldTable, String> {
    let mut builder = TableBuilder::new();
    for (key, value) in object {
        if key.len() > 255 {
            return Err(format!("key '{key}' is longer than 255 bytes"));
        }
        builder.push(key, &from_json(value, depth)?);
    }
    Ok(builder.finish())
}

fn from_json(value: &Value, depth: usize) -> Result<FieldValue, String> {
    if depth > NESTING_MAX {
        return Err("nested too deeply".into());
    }
    Ok(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => FieldValue::I64(integer),
            (None, Some(float)) => FieldValue::F64(float),
            (None, None) => return Err(format!("{number} is out of range")),
        },
        Value::String(text) => FieldValue::text(text),
        Value::Array(items) => FieldValue::Array(
            items
                .iter()
                .map(|item| from_json(item, depth + 1))
                .collect::<Result<FieldArray, _>>()?,
        ),
        Value::Object(object) => FieldValue::Table(nested_table(object, depth + 1)?),
    })
}

/// Encoded properties as a JSON object with those that are set.
pub(crate) fn properties_to_json(raw: &Bytes) -> Value {
    let Ok(properties) = Properties::decode(raw) else {
        return Value::Object(Map::new());
    };
    let mut object = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(key.to_owned(), value);
        }
    };
    let words = |bytes: &Option<Bytes>| bytes.as_deref().map(text);
    put("content_type", words(&properties.content_type));
    put("content_encoding", words(&properties.content_encoding));
    put("headers", properties.headers.as_ref().map(table_to_json));
    put("delivery_mode", properties.delivery_mode.map(Value::from));
    put("priority", properties.priority.map(Value::from));
    put("correlation_id", words(&properties.correlation_id));
    put("reply_to", words(&properties.reply_to));
    put("expiration", words(&properties.expiration));
    put("message_id", words(&properties.message_id));
    put("timestamp", properties.timestamp.map(Value::from));
    put("type", words(&properties.kind));
    put("user_id", words(&properties.user_id));
    put("app_id", words(&properties.app_id));
    put("cluster_id", words(&properties.cluster_id));
    Value::Object(object)
}

/// Properties of a message to publish, encoded.
pub(crate) fn json_to_properties(object: &Map<String, Value>) -> Result<Bytes, String> {
    let mut properties = Properties::default();
    for (key, value) in object {
        let word = || -> Result<Option<Bytes>, String> {
            match value {
                Value::Null => Ok(None),
                Value::String(text) if text.len() <= 255 => {
                    Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
                }
                Value::Number(number) => Ok(Some(Bytes::from(number.to_string()))),
                _ => Err(format!(
                    "property {key} must be a text of at most 255 bytes"
                )),
            }
        };
        let number = || {
            value
                .as_u64()
                .ok_or_else(|| format!("property {key} must be a number"))
        };
        let octet = || {
            number()
                .and_then(|n| u8::try_from(n).map_err(|_| format!("property {key} is above 255")))
        };
        match key.as_str() {
            "content_type" => properties.content_type = word()?,
            "content_encoding" => properties.content_encoding = word()?,
            "headers" => {
                let headers = value
                    .as_object()
                    .ok_or("property headers must be an object")?;
                properties.headers = Some(json_to_table(headers)?);
            }
            "delivery_mode" => properties.delivery_mode = Some(octet()?),
            "priority" => properties.priority = Some(octet()?),
            "correlation_id" => properties.correlation_id = word()?,
            "reply_to" => properties.reply_to = word()?,
            "expiration" => properties.expiration = word()?,
            "message_id" => properties.message_id = word()?,
            "timestamp" => properties.timestamp = Some(number()?),
            "type" => properties.kind = word()?,
            "user_id" => properties.user_id = word()?,
            "app_id" => properties.app_id = word()?,
            "cluster_id" => properties.cluster_id = word()?,
            _ => return Err(format!("unknown property {key}")),
        }
    }
    Ok(properties.encode())
}

/// The client's properties as received at login.
pub(crate) fn client_properties(raw: &[u8]) -> Value {
    match FieldTable::from_raw(Bytes::copy_from_slice(raw)) {
        Ok(table) => table_to_json(&table),
        Err(_) => Value::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_round_trip() {
        let original = json!({
            "x-max-length": 10,
            "x-overflow": "reject-publish",
            "nested": { "list": [1, "two", true, null, 1.5] },
        });
        let table = json_to_table(original.as_object().unwrap()).unwrap();
        assert_eq!(table_to_json(&table), original);
    }

    #[test]
    fn deep_json_is_refused() {
        let mut value = json!(1);
        for _ in 0..200 {
            value = json!([value]);
        }
        let object = json!({ "k": value });
        assert!(json_to_table(object.as_object().unwrap()).is_err());
    }

    #[test]
    fn properties_round_trip() {
        let original = json!({
            "content_type": "text/plain",
            "headers": { "a": "b" },
            "delivery_mode": 2,
            "priority": 9,
            "message_id": "m",
            "timestamp": 1_700_000_000,
            "type": "t",
        });
        let raw = json_to_properties(original.as_object().unwrap()).unwrap();
        assert_eq!(properties_to_json(&raw), original);
    }

    #[test]
    fn wrong_properties_are_refused() {
        for (object, part) in [
            (json!({ "priority": 300 }), "above 255"),
            (json!({ "headers": [] }), "object"),
            (json!({ "colour": 1 }), "unknown property colour"),
            (json!({ "message_id": "x".repeat(300) }), "255 bytes"),
        ] {
            let error = json_to_properties(object.as_object().unwrap()).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
