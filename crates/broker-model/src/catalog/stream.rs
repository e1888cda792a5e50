//! What clients say about streams: how old messages may get, and where a consumer begins.
//!
//! Not here: finding the place in a stream (its host does), keeping to the limits (`dispatch`).

use amqp_codec::FieldValue;

/// Where a consumer of a stream begins (`x-stream-offset`). Offsets are those of RabbitMQ: the first message
/// that a stream ever had is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOffset {
    /// With the oldest message that is there.
    First,
    /// With the newest message that is there. (At RabbitMQ with the last chunk, which ends with it.)
    Last,
    /// With what comes after the consumer.
    Next,
    /// With this message; with the first that is there if it is gone.
    Number(u64),
    /// With the first message that came at this time or later, ms since the Unix epoch.
    Since(u64),
    /// With the first message that is no older than so many ms.
    Within(u64),
}

impl StreamOffset {
    /// Reads the argument: a word, a number, a time, or an interval such as `1h`.
    #[must_use]
    pub fn read(value: &FieldValue) -> Option<Self> {
        match value {
            FieldValue::Timestamp(seconds) => Some(Self::Since(seconds.saturating_mul(1000))),
            FieldValue::LongStr(_) => match value.as_text()? {
                "first" => Some(Self::First),
                "last" => Some(Self::Last),
                "next" => Some(Self::Next),
                interval => age_ms(interval).map(Self::Within),
            },
            number => u64::try_from(number.as_integer()?).ok().map(Self::Number),
        }
    }
}

/// A time as streams have it, such as `7D`, in ms: a number of years, months, days, hours, minutes or seconds
/// that is not 0.
#[must_use]
pub(super) fn age_ms(age: &str) -> Option<u64> {
    let digits = age.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = age.split_at(digits);
    let seconds = match unit {
        "Y" => 365 * 86_400,
        "M" => 30 * 86_400,
        "D" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    let ms = number.parse::<u64>().ok()?.checked_mul(seconds * 1000)?;
    (ms > 0).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (text, expected) in [
            ("1s", Some(1000)),
            ("90m", Some(90 * 60_000)),
            ("2h", Some(7_200_000)),
            ("7D", Some(7 * 86_400_000)),
            ("1M", Some(30 * 86_400_000)),
            ("1Y", Some(365 * 86_400_000)),
            ("0s", None),
            ("7", None),
            ("D", None),
            ("", None),
            ("7d", None),
            ("-7D", None),
            ("7D ", None),
            ("7\u{e9}", None),
            ("99999999999999999999Y", None),
            ("18446744073709551615Y", None),
        ] {
            assert_eq!(age_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn offsets() {
        let text = FieldValue::text;
        for (value, expected) in [
            (text("first"), Some(StreamOffset::First)),
            (text("last"), Some(StreamOffset::Last)),
            (text("next"), Some(StreamOffset::Next)),
            (text("1h"), Some(StreamOffset::Within(3_600_000))),
            (text("foo"), None),
            (text("12"), None),
            (FieldValue::I32(0), Some(StreamOffset::Number(0))),
            (FieldValue::U8(7), Some(StreamOffset::Number(7))),
            (FieldValue::I64(-1), None),
            (FieldValue::Timestamp(5), Some(StreamOffset::Since(5000))),
            (FieldValue::Bool(true), None),
            (FieldValue::Void, None),
        ] {
            assert_eq!(StreamOffset::read(&value), expected, "{value:?}");
        }
    }
}
