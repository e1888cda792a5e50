//! Made-up values: small ones often, extreme ones sometimes, always the same from the same seed.

use bytes::Bytes;

use crate::{
    ContentHeader, FieldArray, FieldTable, FieldValue, Properties, ShortStr, TableBuilder,
};

/// A source of made-up values (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Sampler {
    state: u64,
    depth: usize,
    /// Whether to make up what only our decoder tells apart: the letter `L`.
    pub(crate) upper_long: bool,
}

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            depth: 0,
            upper_long: true,
        }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn bytes(&mut self, len_max: usize) -> Bytes {
        let len = self.below(len_max + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, bytes_max: usize) -> String {
        const CHARS: &[char] = &['a', 'Z', '.', '#', '*', '0', ' ', 'ß', '→', '🐇'];
        let mut text = String::new();
        for _ in 0..self.below(12) {
            text.push(CHARS[self.below(CHARS.len())]);
        }
        match self.below(20) {
            0 => "x".repeat(bytes_max),
            1 => String::new(),
            _ => text,
        }
    }
}

/// A type of which values can be made up.
pub(crate) trait Sample {
    fn sample(sampler: &mut Sampler) -> Self;
}

macro_rules! sample_integer {
    ($($integer:ty),*) => {$(
        impl Sample for $integer {
            fn sample(sampler: &mut Sampler) -> Self {
                match sampler.below(4) {
                    0 => <$integer>::MAX,
                    1 => <$integer>::MIN,
                    _ => sampler.next() as $integer,
                }
            }
        }
    )*};
}

sample_integer!(u8, u16, u32, u64, i8, i16, i32, i64);

impl Sample for bool {
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.next() & 1 != 0
    }
}

impl Sample for ShortStr {
    fn sample(sampler: &mut Sampler) -> Self {
        Self::truncated(&sampler.text(255))
    }
}

impl Sample for Bytes {
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.bytes(40)
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(sampler: &mut Sampler) -> Self {
        bool::sample(sampler).then(|| T::sample(sampler))
    }
}

impl Sample for FieldValue {
    fn sample(sampler: &mut Sampler) -> Self {
        let nested = if sampler.depth < 4 { 18 } else { 16 };
        match sampler.below(nested) {
            0 => Self::Bool(Sample::sample(sampler)),
            1 => Self::I8(Sample::sample(sampler)),
            2 => Self::U8(Sample::sample(sampler)),
            3 => Self::I16(Sample::sample(sampler)),
            4 => Self::U16(Sample::sample(sampler)),
            5 => Self::I32(Sample::sample(sampler)),
            6 => Self::U32(Sample::sample(sampler)),
            7 => Self::I64(Sample::sample(sampler)),
            8 if sampler.upper_long => Self::I64Upper(Sample::sample(sampler)),
            9 => Self::F32(sampler.next() as f32 / 7.0),
            10 => Self::F64(sampler.next() as f64 / 7.0),
            11 => Self::Decimal {
                scale: Sample::sample(sampler),
                value: Sample::sample(sampler),
            },
            12 => Self::Timestamp(Sample::sample(sampler)),
            13 => Self::ByteArray(Sample::sample(sampler)),
            14 => Self::Void,
            16 => Self::Array(Sample::sample(sampler)),
            17 => Self::Table(Sample::sample(sampler)),
            _ => Self::LongStr(Sample::sample(sampler)),
        }
    }
}

impl Sample for FieldArray {
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.depth += 1;
        let values: Vec<_> = (0..sampler.below(4))
            .map(|_| FieldValue::sample(sampler))
            .collect();
        sampler.depth -= 1;
        values.into_iter().collect()
    }
}

impl Sample for FieldTable {
    /// Keys grow and differ, because other libraries keep tables as sorted maps.
    fn sample(sampler: &mut Sampler) -> Self {
        sampler.depth += 1;
        let mut builder = TableBuilder::new();
        for n in 0..sampler.below(5) {
            let key = format!("{n}{}", sampler.text(254));
            builder.push(&key, &FieldValue::sample(sampler));
        }
        sampler.depth -= 1;
        builder.finish()
    }
}

impl Sample for Properties {
    fn sample(sampler: &mut Sampler) -> Self {
        let text =
            |sampler: &mut Sampler| Option::<ShortStr>::sample(sampler).map(ShortStr::into_bytes);
        Self {
            content_type: text(sampler),
            content_encoding: text(sampler),
            headers: Sample::sample(sampler),
            delivery_mode: Sample::sample(sampler),
            priority: Sample::sample(sampler),
            correlation_id: text(sampler),
            reply_to: text(sampler),
            expiration: text(sampler),
            message_id: text(sampler),
            timestamp: Sample::sample(sampler),
            kind: text(sampler),
            user_id: text(sampler),
            app_id: text(sampler),
            cluster_id: text(sampler),
        }
    }
}

impl Sample for ContentHeader {
    fn sample(sampler: &mut Sampler) -> Self {
        Self {
            body_size: Sample::sample(sampler),
            properties: Properties::sample(sampler).encode(),
        }
    }
}
