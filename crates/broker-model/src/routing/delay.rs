//! Headers that exchanges which keep messages look at: `x-delay` and `x-recent-history-no-store`.

use crate::catalog::TIME_MAX_MS;
use amqp_codec::{FieldTable, FieldValue, TableBuilder};

/// Header of a message: milliseconds until an `x-delayed-message` exchange routes it.
pub const DELAY_HEADER: &str = "x-delay";

/// Header of a message that an `x-recent-history` exchange is not to keep.
pub const HISTORY_NO_STORE_HEADER: &str = "x-recent-history-no-store";

/// The delay that a message with these headers asks for; `None`: it is routed at once.
#[must_use]
pub fn delay_ms(headers: Option<&FieldTable>) -> Option<u64> {
    let number = asked(headers?)?;
    let ms = u64::try_from(number).ok().filter(|ms| *ms > 0)?;
    Some(ms.min(TIME_MAX_MS.unsigned_abs()))
}

/// The headers of a message whose time has come: the delay is negative, so that nobody delays it
/// again and a consumer sees what it was.
#[must_use]
pub fn without_delay(headers: &FieldTable) -> FieldTable {
    // One that is negative already was over before it came here.
    let Some(number) = asked(headers).filter(|number| *number > 0) else {
        return headers.clone();
    };
    let number = -number;
    let value = i32::try_from(number).map_or(FieldValue::I64(number), FieldValue::I32);
    TableBuilder::from_table(headers)
        .set(DELAY_HEADER, &value)
        .finish()
}

/// Whether a message with these headers belongs in the history of an exchange.
pub(super) fn is_kept(headers: Option<&FieldTable>) -> bool {
    headers
        .is_none_or(|headers| headers.get(HISTORY_NO_STORE_HEADER) != Some(FieldValue::Bool(true)))
}

/// The number in the header: an integer, or one written as text or as a number with a point.
fn asked(headers: &FieldTable) -> Option<i64> {
    let value = headers.get(DELAY_HEADER)?;
    match &value {
        FieldValue::F32(number) => Some(*number as i64),
        FieldValue::F64(number) => Some(*number as i64),
        FieldValue::Decimal { scale, value } => Some(
            10_i64
                .checked_pow(u32::from(*scale))
                .map_or(0, |by| i64::from(*value) / by),
        ),
        FieldValue::LongStr(_) => value.as_text()?.parse().ok(),
        value => value.as_integer(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &FieldValue) -> FieldTable {
        TableBuilder::new()
            .push("before", &FieldValue::Void)
            .push(DELAY_HEADER, value)
            .finish()
    }

    #[test]
    fn delays() {
        for (value, expected) in [
            (FieldValue::I32(500), Some(500)),
            (FieldValue::I64(500), Some(500)),
            (FieldValue::U8(5), Some(5)),
            (FieldValue::text("500"), Some(500)),
            (FieldValue::F64(500.9), Some(500)),
            (FieldValue::F64(f64::NAN), None),
            (
                FieldValue::Decimal {
                    scale: 1,
                    value: 55,
                },
                Some(5),
            ),
            (
                FieldValue::Decimal {
                    scale: 200,
                    value: 55,
                },
                None,
            ),
            (FieldValue::I64(i64::MAX), Some(TIME_MAX_MS.unsigned_abs())),
            (FieldValue::I32(0), None),
            (FieldValue::I32(-500), None),
            (FieldValue::I64(i64::MIN), None),
            (FieldValue::text("soon"), None),
            (FieldValue::Bool(true), None),
        ] {
            assert_eq!(delay_ms(Some(&headers(&value))), expected, "{value:?}");
        }
        assert_eq!(delay_ms(None), None);
        assert_eq!(delay_ms(Some(&FieldTable::empty())), None);
    }

    #[test]
    fn a_delay_that_is_over_is_negative() {
        for (value, expected) in [
            (FieldValue::I64(500), FieldValue::I32(-500)),
            (FieldValue::text("7"), FieldValue::I32(-7)),
            (FieldValue::I64(-5), FieldValue::I64(-5)),
            (
                FieldValue::I64(3_000_000_000),
                FieldValue::I64(-3_000_000_000),
            ),
            (FieldValue::Void, FieldValue::Void),
        ] {
            let over = without_delay(&headers(&value));
            assert_eq!(over.get(DELAY_HEADER), Some(expected), "{value:?}");
            assert_eq!(over.iter().count(), 2);
        }
    }

    #[test]
    fn what_a_history_keeps() {
        let with = |value| {
            TableBuilder::new()
                .push(HISTORY_NO_STORE_HEADER, &value)
                .finish()
        };
        assert!(is_kept(None));
        assert!(is_kept(Some(&FieldTable::empty())));
        assert!(is_kept(Some(&with(FieldValue::Bool(false)))));
        assert!(!is_kept(Some(&with(FieldValue::Bool(true)))));
    }
}
