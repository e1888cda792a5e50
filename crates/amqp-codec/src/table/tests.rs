//! Tests of field tables.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::tests::{Sample, Sampler};

/// One value per letter, with its bytes after the letter.
fn letters() -> Vec<(u8, Vec<u8>, FieldValue)> {
    let table = FieldTable::from_raw(Bytes::from_static(b"\x01kt\x01")).unwrap();
    let array = FieldArray::from_raw(Bytes::from_static(b"V")).unwrap();
    vec![
        (b't', vec![1], FieldValue::Bool(true)),
        (b'b', vec![0xFF], FieldValue::I8(-1)),
        (b'B', vec![0xFF], FieldValue::U8(255)),
        (b's', vec![0xFF, 0xFE], FieldValue::I16(-2)),
        (b'u', vec![0xFF, 0xFE], FieldValue::U16(65534)),
        (b'I', vec![0xFF, 0xFF, 0xFF, 0xFD], FieldValue::I32(-3)),
        (
            b'i',
            vec![0xFF, 0xFF, 0xFF, 0xFD],
            FieldValue::U32(4_294_967_293),
        ),
        (b'l', vec![0xFF; 8], FieldValue::I64(-1)),
        (b'L', vec![0xFF; 8], FieldValue::I64Upper(-1)),
        (b'f', vec![0x3F, 0x80, 0, 0], FieldValue::F32(1.0)),
        (
            b'd',
            vec![0x3F, 0xF0, 0, 0, 0, 0, 0, 0],
            FieldValue::F64(1.0),
        ),
        (
            b'D',
            vec![2, 0, 0, 0, 5],
            FieldValue::Decimal { scale: 2, value: 5 },
        ),
        (
            b'S',
            vec![0, 0, 0, 2, 0xC3, 0x28],
            FieldValue::LongStr(Bytes::from_static(b"\xC3\x28")),
        ),
        (b'A', vec![0, 0, 0, 1, b'V'], FieldValue::Array(array)),
        (b'T', vec![0, 0, 0, 0, 0, 0, 0, 9], FieldValue::Timestamp(9)),
        (
            b'F',
            vec![0, 0, 0, 4, 1, b'k', b't', 1],
            FieldValue::Table(table),
        ),
        (
            b'x',
            vec![0, 0, 0, 1, 7],
            FieldValue::ByteArray(Bytes::from_static(&[7])),
        ),
        (b'V', vec![], FieldValue::Void),
    ]
}

#[test]
fn every_letter_is_read_and_written() {
    for (letter, bytes, value) in letters() {
        let mut raw = vec![1, b'k', letter];
        raw.extend(bytes);
        let raw = Bytes::from(raw);
        let table = FieldTable::from_raw(raw.clone()).unwrap();
        assert_eq!(
            table.get("k"),
            Some(value.clone()),
            "{}",
            char::from(letter)
        );
        assert_eq!(value.letter(), letter);
        assert_eq!(TableBuilder::new().push("k", &value).finish().raw(), &raw);
    }
}

#[test]
fn other_letters_are_refused() {
    let known: Vec<u8> = letters().iter().map(|(letter, ..)| *letter).collect();
    for letter in (0..=255).filter(|letter| !known.contains(letter)) {
        let mut raw = vec![1, b'k', letter];
        raw.extend([0; 16]);
        assert_eq!(
            FieldTable::from_raw(Bytes::from(raw)),
            Err(ValueError::UnknownFieldKind {
                letter: char::from(letter)
            })
        );
    }
}

#[test]
fn cut_values_are_refused() {
    for (letter, bytes, _) in letters() {
        for len in 0..bytes.len() {
            let mut raw = vec![1, b'k', letter];
            raw.extend(&bytes[..len]);
            // A cut array or table may also be wrong inside; either way it is refused.
            assert!(
                FieldTable::from_raw(Bytes::from(raw)).is_err(),
                "{}",
                char::from(letter)
            );
        }
    }
    assert_eq!(
        FieldTable::from_raw(Bytes::from_static(&[5, b'a'])),
        Err(ValueError::Truncated)
    );
    assert_eq!(
        FieldTable::from_raw(Bytes::from_static(&[1, b'a'])),
        Err(ValueError::Truncated)
    );
}

/// A table in a table in a table …, or the same of arrays.
fn nested(letter: u8, depth: usize) -> Bytes {
    let mut inner: Vec<u8> = Vec::new();
    for level in 0..depth {
        let mut outer = BytesMut::new();
        if letter == b'F' || level + 1 == depth {
            outer.put_slice(&[0]);
        }
        outer.put_u8(letter);
        outer.put_u32(inner.len() as u32);
        outer.put_slice(&inner);
        inner = outer.to_vec();
    }
    Bytes::from(inner)
}

#[test]
fn nesting_is_bounded() {
    for letter in [b'F', b'A'] {
        assert!(FieldTable::from_raw(nested(letter, MAX_NESTING)).is_ok());
        for depth in [MAX_NESTING + 1, 20_000] {
            assert_eq!(
                FieldTable::from_raw(nested(letter, depth)),
                Err(ValueError::NestingTooDeep),
                "{depth} levels"
            );
        }
    }
}

#[test]
fn lookup_takes_the_last_and_order_stays() {
    let table: FieldTable = [("b", 1), ("a", 2), ("b", 3)]
        .map(|(key, value)| (ShortStr::truncated(key), FieldValue::I32(value)))
        .into_iter()
        .collect();
    assert_eq!(table.get("b"), Some(FieldValue::I32(3)));
    assert_eq!(table.get("c"), None);
    assert!(table.contains_key("a") && !table.contains_key("c"));
    let keys: Vec<_> = table.iter().map(|entry| entry.key()).collect();
    assert_eq!(keys, ["b", "a", "b"]);
    assert_eq!(
        format!("{table:?}"),
        r#"{"b": I32(1), "a": I32(2), "b": I32(3)}"#
    );
}

#[test]
fn keys_need_not_be_text() {
    let raw = Bytes::from_static(b"\x02\xC3\x28V");
    let table = FieldTable::from_raw(raw.clone()).unwrap();
    assert_eq!(
        table.to_entries(),
        [(ShortStr::truncated("\u{FFFD}("), FieldValue::Void)]
    );
    assert_eq!(TableBuilder::from_table(&table).finish().raw(), &raw);
}

#[test]
fn rewriting_keeps_the_other_entries() {
    // `L` is never written by choice, so it shows that the bytes are kept.
    let raw = Bytes::from_static(b"\x01aL\0\0\0\0\0\0\0\x01\x01bV\x01ct\0\x01bt\x01");
    let table = FieldTable::from_raw(raw).unwrap();
    let set = TableBuilder::from_table(&table)
        .set("b", &FieldValue::U8(9))
        .finish();
    assert_eq!(
        set.raw().as_ref(),
        b"\x01aL\0\0\0\0\0\0\0\x01\x01bB\x09\x01ct\0"
    );
    let set = TableBuilder::from_table(&table)
        .set("d", &FieldValue::Void)
        .finish();
    assert!(set.raw().starts_with(table.raw()) && set.raw().ends_with(b"\x01dV"));
    let without = TableBuilder::from_table_without(&table, &["b", "x"]).finish();
    assert_eq!(without.raw().as_ref(), b"\x01aL\0\0\0\0\0\0\0\x01\x01ct\0");
}

#[test]
fn equivalence() {
    let text = FieldValue::text;
    let array = |values: &[FieldValue]| FieldValue::Array(values.iter().cloned().collect());
    for (a, b, expected) in [
        (FieldValue::I8(1), FieldValue::I64(1), true),
        (FieldValue::U32(7), FieldValue::I64Upper(7), true),
        (FieldValue::I32(1), FieldValue::F64(1.0), false),
        (FieldValue::F32(1.5), FieldValue::F64(1.5), true),
        (FieldValue::I32(1), text("1"), false),
        (text("a"), text("a"), true),
        (
            text("a"),
            FieldValue::ByteArray(Bytes::from_static(b"a")),
            false,
        ),
        (FieldValue::Timestamp(1), FieldValue::I64(1), false),
        (
            array(&[FieldValue::I8(1)]),
            array(&[FieldValue::I32(1)]),
            true,
        ),
        (array(&[FieldValue::I8(1)]), array(&[]), false),
        (FieldValue::Void, FieldValue::Void, true),
    ] {
        assert_eq!(a.equivalent(&b), expected, "{a:?} and {b:?}");
        assert_eq!(b.equivalent(&a), expected, "{b:?} and {a:?}");
    }
}

proptest! {
    #[test]
    fn round_trip(seed: u64) {
        let table = FieldTable::sample(&mut Sampler::new(seed));
        prop_assert_eq!(&FieldTable::from_raw(table.raw().clone()), &Ok(table.clone()));
        let again: FieldTable = table.to_entries().into_iter().collect();
        prop_assert_eq!(again.raw(), table.raw());
        for entry in &table {
            prop_assert_eq!(table.get(&entry.key()), Some(entry.value()));
        }
    }
}
