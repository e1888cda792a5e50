//! JSON as a field table.

use amqp_codec::{FieldArray, FieldTable, FieldValue, ShortStr, TableBuilder};
use bytes::Bytes;
use serde_json::{Map, Value};

/// Deeper values are left out: tables may not nest deeper either.
const DEPTH_MAX: usize = 32;

/// The members of an object. Keys that are too long for a table are left out.
pub(super) fn table(object: Option<&Map<String, Value>>) -> FieldTable {
    to_table(object, 0)
}

fn to_table(object: Option<&Map<String, Value>>, depth: usize) -> FieldTable {
    let mut builder = TableBuilder::new();
    for (key, value) in object.into_iter().flatten() {
        if let Some(value) = to_value(value, depth)
            && ShortStr::try_from(key.as_str()).is_ok()
        {
            builder.push(key, &value);
        }
    }
    builder.finish()
}

fn to_value(value: &Value, depth: usize) -> Option<FieldValue> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(flag) => FieldValue::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => FieldValue::I64(number),
            None => FieldValue::F64(number.as_f64()?),
        },
        Value::String(text) => FieldValue::LongStr(Bytes::copy_from_slice(text.as_bytes())),
        Value::Array(values) => {
            let values: Vec<FieldValue> = values
                .iter()
                .filter_map(|value| to_value(value, depth + 1))
                .collect();
            FieldValue::Array(values.into_iter().collect::<FieldArray>())
        }
        Value::Object(object) => FieldValue::Table(to_table(Some(object), depth + 1)),
    })
}
