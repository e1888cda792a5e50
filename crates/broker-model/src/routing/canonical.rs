//! Field values as bytes that are equal exactly when the values are.

use amqp_codec::FieldValue;
use smallvec::SmallVec;

/// A value in canonical form. Most are short.
pub(crate) type Canonical = SmallVec<[u8; 24]>;

/// The canonical form of `value`: integers by their number whatever their width (and timestamps
/// with them), floats by their number, strings and byte arrays by their bytes; an integer never
/// equals a float or a string.
pub(crate) fn canonical(value: &FieldValue) -> Canonical {
    let mut out = Canonical::new();
    write(value, &mut out);
    out
}

/// Recursion ends: the nesting of a table is bounded when it is received.
fn write(value: &FieldValue, out: &mut Canonical) {
    if let Some(number) = value.as_integer() {
        return put(b'i', &i128::from(number).to_be_bytes(), out);
    }
    let float = |number: f64, out: &mut Canonical| {
        // Both zeros are one number.
        let number = if number == 0.0 { 0.0 } else { number };
        put(b'd', &number.to_bits().to_be_bytes(), out);
    };
    match value {
        FieldValue::Timestamp(seconds) => put(b'i', &i128::from(*seconds).to_be_bytes(), out),
        FieldValue::Bool(truth) => put(b't', &[u8::from(*truth)], out),
        FieldValue::F32(number) => float(f64::from(*number), out),
        FieldValue::F64(number) => float(*number, out),
        FieldValue::Decimal { scale, value } => {
            put(b'D', &[*scale], out);
            out.extend_from_slice(&value.to_be_bytes());
        }
        FieldValue::LongStr(bytes) | FieldValue::ByteArray(bytes) => {
            put(b'S', &(bytes.len() as u64).to_be_bytes(), out);
            out.extend_from_slice(bytes);
        }
        FieldValue::Array(array) => {
            put(b'A', &(array.iter().count() as u64).to_be_bytes(), out);
            for value in array.iter() {
                write(&value, out);
            }
        }
        FieldValue::Table(table) => {
            put(b'F', &(table.iter().count() as u64).to_be_bytes(), out);
            for entry in table {
                put(b'k', &(entry.key_bytes().len() as u64).to_be_bytes(), out);
                out.extend_from_slice(entry.key_bytes());
                write(&entry.value(), out);
            }
        }
        // Integers have been handled above.
        _ => put(b'V', &[], out),
    }
}

fn put(kind: u8, bytes: &[u8], out: &mut Canonical) {
    out.push(kind);
    out.extend_from_slice(bytes);
}
