//! Hostile input: arbitrary bytes, cut and altered valid ones. Nothing may panic, and what is
//! accepted must be usable.

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Sample, Sampler};
use crate::method::ALL;
use crate::{
    BasicPublishRef, ContentHeader, FieldArray, FieldTable, FieldValue, Method, Properties,
    PropertiesView, Rewrite, decode, parse_protocol_header, take_frames, validate_properties,
    write_method,
};

/// Looks at every value, as the broker might.
fn walk(table: &FieldTable) {
    for entry in table {
        let _ = entry.key();
        walk_value(&entry.value());
    }
    let _ = format!("{table:?}");
}

fn walk_value(value: &FieldValue) {
    match value {
        FieldValue::Table(table) => walk(table),
        FieldValue::Array(array) => array.iter().for_each(|value| walk_value(&value)),
        _ => assert!(
            value.equivalent(&value.clone())
                || matches!(value, FieldValue::F32(_) | FieldValue::F64(_))
        ),
    }
}

fn decode_everything(bytes: &Bytes) {
    if let Ok(method) = Method::decode(bytes.clone()) {
        let mut again = BytesMut::new();
        method.encode(&mut again);
        // Reserved arguments and unused bits are all that may differ.
        assert_eq!(Method::decode(again.freeze()).as_ref(), Ok(&method));
    }
    let _ = BasicPublishRef::parse(bytes);
    let _ = ContentHeader::decode(bytes.clone());
    if let Ok(table) = FieldTable::from_raw(bytes.clone()) {
        walk(&table);
    }
    if let Ok(array) = FieldArray::from_raw(bytes.clone()) {
        array.iter().for_each(|value| walk_value(&value));
    }
    // A view must cope even with properties that nobody has validated.
    let view = PropertiesView::new(bytes);
    let _ = (
        view.headers(),
        view.cluster_id(),
        view.timestamp(),
        view.delivery_mode(),
    );
    let _ = Rewrite::new(bytes).expiration(None).finish();
    if validate_properties(bytes).is_ok() {
        assert_eq!(&Properties::decode(bytes).unwrap().encode(), bytes);
        assert_eq!(&Rewrite::new(bytes).finish(), bytes);
    }
}

fn decode_frames(bytes: &[u8], frame_max: usize) {
    let mut input = BytesMut::from(bytes);
    let mut one_by_one = Vec::new();
    let end = loop {
        match decode(&mut input, frame_max) {
            Ok(Some(frame)) => one_by_one.push(frame),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    let mut input = BytesMut::from(bytes);
    let mut at_once = Vec::new();
    let same_end = loop {
        match take_frames(&mut input, frame_max) {
            Ok(Some(batch)) => at_once.extend(batch.frames().map(|frame| frame.to_raw())),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    assert_eq!(one_by_one, at_once);
    assert_eq!(end, same_end);
    for frame in at_once {
        decode_everything(&frame.payload);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..400)) {
        decode_everything(&Bytes::from(bytes.clone()));
        decode_frames(&bytes, 4096);
        let _ = parse_protocol_header(&mut BytesMut::from(bytes.as_slice()));
    }

    #[test]
    fn arbitrary_arguments(method in 0..ALL.len(), bytes in vec(any::<u8>(), 0..60)) {
        let (class_id, method_id, ..) = ALL[method];
        let mut payload = BytesMut::new();
        payload.extend_from_slice(&class_id.to_be_bytes());
        payload.extend_from_slice(&method_id.to_be_bytes());
        payload.extend_from_slice(&bytes);
        decode_everything(&payload.freeze());
    }

    /// What is cut is refused or awaited, never taken for something else.
    #[test]
    fn truncated_and_altered(seed: u64, cut: prop::sample::Index, flip: prop::sample::Index, to: u8) {
        for (_, _, name, make) in ALL {
            let mut frame = BytesMut::new();
            write_method(&mut frame, 7, &make(&mut Sampler::new(seed)));
            let cut = cut.index(frame.len());
            prop_assert_eq!(decode(&mut BytesMut::from(&frame[..cut]), 1 << 20), Ok(None), "{}", name);
            let payload = Bytes::copy_from_slice(&frame[7..frame.len() - 1]);
            let cut = cut.min(payload.len());
            if cut < payload.len() {
                prop_assert!(Method::decode(payload.slice(..cut)).is_err(), "{}", name);
            }
            let flip = flip.index(frame.len());
            frame[flip] = to;
            decode_frames(&frame, 1 << 16);
        }
    }

    #[test]
    fn truncated_headers(seed: u64, cut: prop::sample::Index, flip: prop::sample::Index, to: u8) {
        let mut payload = BytesMut::new();
        ContentHeader::sample(&mut Sampler::new(seed)).encode(&mut payload);
        let payload = payload.freeze();
        prop_assert!(ContentHeader::decode(payload.clone()).is_ok());
        prop_assert!(ContentHeader::decode(payload.slice(..cut.index(payload.len()))).is_err());
        let mut altered = payload.to_vec();
        altered[flip.index(payload.len())] = to;
        decode_everything(&Bytes::from(altered.clone()));
        decode_everything(&Bytes::from(altered).slice(12..));
    }
}
