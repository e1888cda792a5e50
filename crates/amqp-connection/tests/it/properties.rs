//! Whatever arrives, in whatever pieces: no panic, and the same events.

use amqp_codec::{Method, ShortStr};
use amqp_connection::{Event, ServerConfig};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::peer::{Peer, header_payload, method_frame, publish_frames, raw_frame};

/// A piece of a conversation, mostly sensible.
fn any_piece() -> impl Strategy<Value = BytesMut> {
    let channel = 0u16..4;
    let method = prop_oneof![
        4 => Just(Method::ChannelOpen {}),
        1 => Just(Method::ChannelCloseOk {}),
        1 => Just(Method::ConnectionCloseOk {}),
        1 => Just(Method::TxSelect {}),
        1 => Just(Method::ChannelClose {
            reply_code: 200,
            reply_text: ShortStr::empty(),
            class_id: 0,
            method_id: 0,
        }),
        1 => any::<u64>().prop_map(|delivery_tag| Method::BasicAck { delivery_tag, multiple: false }),
    ];
    prop_oneof![
        8 => (1u16..4, vec(any::<u8>(), 0..9000))
            .prop_map(|(channel, body)| publish_frames(channel, 4096, "key", &Bytes::from(body))),
        8 => (channel.clone(), method).prop_map(|(channel, method)| method_frame(channel, &method)),
        1 => (channel.clone(), 0u64..10)
            .prop_map(|(channel, size)| BytesMut::from(&raw_frame(2, channel, &header_payload(size))[..])),
        1 => (1u8..10, channel, vec(any::<u8>(), 0..40))
            .prop_map(|(kind, channel, payload)| BytesMut::from(&raw_frame(kind, channel, &payload)[..])),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| BytesMut::from(&bytes[..])),
    ]
}

/// Sends bytes and acts on every event as a driver would, so that the conversation goes on.
fn drive(peer: &mut Peer, bytes: &[u8], seen: &mut Vec<Event>) {
    peer.feed(bytes);
    while let Some(event) = peer.poll_one() {
        match &event {
            Event::ChannelClosed { channel, .. } => peer.server.channel_closed(*channel),
            Event::CloseRequested(_) => peer.server.finish_close(),
            _ => {}
        }
        seen.push(event);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Input in any pieces gives the events and the output of input in one piece.
    #[test]
    fn splits_do_not_matter(pieces in vec(any_piece(), 0..24), cuts in vec(0usize..30_000, 0..12)) {
        let bytes: Vec<u8> = pieces.iter().flatten().copied().collect();
        let run = |cuts: &[usize]| {
            let mut peer = Peer::open();
            let mut seen = Vec::new();
            let mut rest = &bytes[..];
            let mut at = 0;
            for cut in cuts {
                let (front, back) = rest.split_at(cut.saturating_sub(at).min(rest.len()));
                drive(&mut peer, front, &mut seen);
                at += front.len();
                rest = back;
            }
            drive(&mut peer, rest, &mut seen);
            (seen, peer.replies())
        };
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(run(&cuts), run(&[]));
    }

    /// Any bytes at any stage: no panic, and output that is whole frames.
    #[test]
    fn garbage_never_panics(stage in 0u8..3, bytes in vec(any::<u8>(), 0..400)) {
        let mut peer = match stage {
            0 => Peer::new(ServerConfig::default()),
            1 => { let mut peer = Peer::new(ServerConfig::default()); peer.send_raw(b"AMQP\x00\x00\x09\x01"); peer }
            _ => { let mut peer = Peer::open(); peer.open_channel(1); peer }
        };
        peer.send_raw(&bytes);
        peer.wait(std::time::Duration::from_secs(30));
    }
}
