//! Tests of content headers.

use proptest::prelude::*;

use super::*;
use crate::tests::{Sample, Sampler};

fn bytes(text: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(text.as_bytes()))
}

#[test]
fn flags_and_order() {
    let properties = Properties {
        content_type: bytes("a"),
        delivery_mode: Some(2),
        priority: Some(5),
        timestamp: Some(1),
        cluster_id: bytes("z"),
        ..Properties::default()
    };
    let raw = properties.encode();
    assert_eq!(
        raw.as_ref(),
        [
            0b1001_1000,
            0b0100_0100,
            1,
            b'a',
            2,
            5,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
            1,
            b'z'
        ]
    );
    assert_eq!(Properties::decode(&raw), Ok(properties));
    assert_eq!(Properties::default().encode(), NO_PROPERTIES);
}

#[test]
fn malformed() {
    for (raw, expected) in [
        (&[][..], Err(ValueError::Truncated)),
        (&[0], Err(ValueError::Truncated)),
        (&[0, 0], Ok(())),
        (&[0, 1], Err(ValueError::PropertyFlags)),
        (&[0, 2], Err(ValueError::PropertyFlags)),
        (&[0, 0, 7], Err(ValueError::TrailingBytes { count: 1 })),
        (&[0x80, 0, 2, b'a'], Err(ValueError::Truncated)),
        (&[0x80, 0, 1, 0xFF], Ok(())), // Text is the publisher's affair.
        (&[0x20, 0, 0, 0, 0, 3, 1, b'k', b'V'], Ok(())),
        (
            &[0x20, 0, 0, 0, 0, 3, 1, b'k', b'?'],
            Err(ValueError::UnknownFieldKind { letter: '?' }),
        ),
        (
            &[0x20, 0, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            Err(ValueError::Truncated),
        ),
    ] {
        assert_eq!(validate_properties(raw), expected, "{raw:?}");
    }
}

#[test]
fn a_mark_stays_here() {
    let properties = Properties {
        priority: Some(5),
        expiration: bytes("7"),
        ..Properties::default()
    };
    let plain = properties.encode();
    let marked = Rewrite::new(&plain).marked().finish();
    assert!(PropertiesView::new(&marked).is_marked());
    assert!(!PropertiesView::new(&plain).is_marked());
    // Nobody can send one, other changes keep it, and the values are as before.
    assert_eq!(validate_properties(&marked), Err(ValueError::PropertyFlags));
    let changed = Rewrite::new(&marked).delivery_mode(Some(2)).finish();
    assert!(PropertiesView::new(&changed).is_marked());
    assert_eq!(Properties::decode(&marked), Ok(properties));
    assert_eq!(PropertiesView::new(&marked).priority(), Some(5));
}

#[test]
fn header_payload() {
    let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x10, 0, 2];
    let header = ContentHeader::decode(Bytes::copy_from_slice(&payload)).unwrap();
    assert_eq!(header.body_size, 256);
    assert!(PropertiesView::new(&header.properties).is_persistent());
    let mut again = BytesMut::new();
    header.encode(&mut again);
    assert_eq!(again, payload.as_slice());
    for (at, to) in [(1, 61), (3, 1)] {
        let mut wrong = payload;
        wrong[at] = to;
        let error = ContentHeader::decode(Bytes::copy_from_slice(&wrong)).unwrap_err();
        let reason = ValueError::ContentClass {
            class_id: u16::from(wrong[1]),
            weight: u16::from(wrong[3]),
        };
        assert_eq!(error, DecodeError::ContentHeader { reason });
        assert_eq!(error.reply_code(), crate::ReplyCode::UNEXPECTED_FRAME);
    }
}

proptest! {
    #[test]
    fn round_trip(seed: u64) {
        let properties = Properties::sample(&mut Sampler::new(seed));
        let raw = properties.encode();
        prop_assert_eq!(Properties::decode(&raw), Ok(properties.clone()));
        let view = PropertiesView::new(&raw);
        prop_assert_eq!(view.content_type(), properties.content_type.as_deref());
        prop_assert_eq!(view.content_encoding(), properties.content_encoding.as_deref());
        prop_assert_eq!(view.headers(), properties.headers);
        prop_assert_eq!(view.delivery_mode(), properties.delivery_mode);
        prop_assert_eq!(view.priority(), properties.priority);
        prop_assert_eq!(view.correlation_id(), properties.correlation_id.as_deref());
        prop_assert_eq!(view.reply_to(), properties.reply_to.as_deref());
        prop_assert_eq!(view.expiration(), properties.expiration.as_deref());
        prop_assert_eq!(view.message_id(), properties.message_id.as_deref());
        prop_assert_eq!(view.timestamp(), properties.timestamp);
        prop_assert_eq!(view.kind(), properties.kind.as_deref());
        prop_assert_eq!(view.user_id(), properties.user_id.as_deref());
        prop_assert_eq!(view.app_id(), properties.app_id.as_deref());
        prop_assert_eq!(view.cluster_id(), properties.cluster_id.as_deref());
    }

    /// A rewrite changes what it names and nothing else.
    #[test]
    fn rewrite(seed: u64) {
        let mut sampler = Sampler::new(seed);
        let old = Properties::sample(&mut sampler);
        let new = Properties::sample(&mut sampler);
        let raw = old.encode();
        prop_assert_eq!(&Rewrite::new(&raw).finish(), &raw);
        let rewritten = Rewrite::new(&raw)
            .headers(new.headers.clone())
            .reply_to(new.reply_to.clone())
            .expiration(new.expiration.clone())
            .delivery_mode(new.delivery_mode)
            .finish();
        let expected = Properties {
            headers: new.headers,
            reply_to: new.reply_to,
            expiration: new.expiration,
            delivery_mode: new.delivery_mode,
            ..old
        };
        prop_assert_eq!(Properties::decode(&rewritten), Ok(expected));
        prop_assert!(validate_properties(&rewritten).is_ok());
    }
}
