//! What is written is read again, here and by tonic.

use super::SHARED;
use super::read::Messages;
use super::write::Written;
use bytes::Bytes;
use cluster_proto::node::v1::LinkFrame;
use futures::stream::{self, StreamExt};
use http_body::{Body as _, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codec::{EncodeBody, SingleMessageCompressionOverride, Streaming};
use tonic::{Code, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

const LIMIT: usize = 1 << 20;

fn frame(sizes: &[usize]) -> LinkFrame {
    LinkFrame {
        hello: None,
        messages: sizes
            .iter()
            .map(|size| (0..*size).map(|at| at as u8).collect())
            .collect(),
    }
}

fn frames() -> Vec<LinkFrame> {
    vec![
        frame(&[]),
        frame(&[0, 1, SHARED]),
        frame(&[10; 100]),
        frame(&[SHARED - 1, 3 * SHARED, 5]),
        frame(&[SHARED; 20]),
        frame(&[]),
    ]
}

fn answers(items: Vec<Result<LinkFrame, Status>>) -> Written<LinkFrame> {
    Written::answers(stream::iter(items).boxed(), LIMIT)
}

/// Everything from a body, cut into frames of `cut` bytes.
struct Cut {
    body: Body,
    waiting: Bytes,
    cut: usize,
}

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.waiting.is_empty() {
            match std::task::ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.waiting = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        let len = self.cut.min(self.waiting.len());
        Poll::Ready(Some(Ok(Frame::data(self.waiting.split_to(len)))))
    }
}

async fn read_all(mut messages: Messages<LinkFrame>) -> (Vec<LinkFrame>, Option<Status>) {
    let mut all = Vec::new();
    loop {
        match messages.message().await {
            Ok(Some(message)) => all.push(message),
            Ok(None) => return (all, None),
            Err(status) => return (all, Some(status)),
        }
    }
}

#[tokio::test]
async fn messages_come_as_they_went_however_they_are_cut() {
    for cut in [1, 2, 7, SHARED, usize::MAX] {
        let body = Body::new(Cut {
            body: Body::new(answers(frames().into_iter().map(Ok).collect())),
            waiting: Bytes::new(),
            cut,
        });
        let (all, error) = read_all(Messages::new(body, LIMIT)).await;
        assert_eq!(all, frames(), "{cut}");
        assert!(error.is_none(), "{cut}: {error:?}");
    }
}

#[tokio::test]
async fn large_fields_are_sent_and_taken_without_a_copy() {
    let large = Bytes::from(vec![7; 3 * SHARED]);
    let sent = LinkFrame {
        hello: None,
        messages: vec![Bytes::from_static(b"small"), large.clone()],
    };
    let mut messages = Messages::<LinkFrame>::new(Body::new(answers(vec![Ok(sent)])), LIMIT);
    let taken = messages.message().await.unwrap().unwrap();
    assert_eq!(taken.messages[1].as_ptr(), large.as_ptr());
}

#[tokio::test]
async fn tonic_reads_what_is_written_and_writes_what_is_read() {
    let body = answers(frames().into_iter().map(Ok).collect());
    let decoder = ProstDecoder::<LinkFrame>::default();
    let read = Streaming::new_response(decoder, body, http::StatusCode::OK, None, Some(LIMIT));
    let read: Vec<LinkFrame> = read.map(Result::unwrap).collect().await;
    assert_eq!(read, frames());

    let body = EncodeBody::new_server(
        ProstEncoder::<LinkFrame>::default(),
        stream::iter(frames().into_iter().map(Ok)),
        None,
        SingleMessageCompressionOverride::default(),
        None,
    );
    let (all, error) = read_all(Messages::new(Body::new(body), LIMIT)).await;
    assert_eq!(all, frames());
    assert!(error.is_none(), "{error:?}");
}

#[tokio::test]
async fn an_error_comes_after_what_was_sent_before_it() {
    let refused = Err(Status::not_found("gone"));
    let body = Body::new(answers(vec![Ok(frame(&[1])), refused, Ok(frame(&[2]))]));
    let (all, error) = read_all(Messages::new(body, LIMIT)).await;
    assert_eq!(all, [frame(&[1])]);
    let error = error.unwrap();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "gone"));
}

#[tokio::test]
async fn messages_beyond_the_limit_are_neither_sent_nor_taken() {
    let large = || stream::iter([Ok(frame(&[1])), Ok(frame(&[LIMIT]))]).boxed();
    let (all, error) = read_all(Messages::new(
        Body::new(Written::answers(large(), LIMIT)),
        LIMIT,
    ))
    .await;
    assert_eq!(all, [frame(&[1])]);
    assert_eq!(error.unwrap().code(), Code::OutOfRange);

    let sent = Body::new(Written::answers(large(), 2 * LIMIT));
    let (all, error) = read_all(Messages::new(sent, LIMIT)).await;
    assert_eq!(all, [frame(&[1])]);
    assert_eq!(error.unwrap().code(), Code::OutOfRange);

    // A request has no trailers: the stream fails.
    let requests = stream::iter([frame(&[LIMIT])]).boxed();
    let mut body = Written::requests(requests, LIMIT);
    let failed = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    assert!(matches!(failed, Some(Err(_))));
    let ended = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    assert!(ended.is_none());
}

#[tokio::test]
async fn what_is_no_message_is_an_error() {
    let cases: [(&[u8], Code); 5] = [
        // Compressed.
        (&[1, 0, 0, 0, 0], Code::Unimplemented),
        // Ends within the prefix, and within the message.
        (&[0, 0, 0], Code::Internal),
        (&[0, 0, 0, 0, 3, 18], Code::Internal),
        // A field that is longer than the message, and a key that is none.
        (&[0, 0, 0, 0, 2, 18, 9], Code::Internal),
        (&[0, 0, 0, 0, 1, 7], Code::Internal),
    ];
    for (bytes, code) in cases {
        let body = Body::new(Cut {
            body: Body::empty(),
            waiting: Bytes::from_static(bytes),
            cut: 2,
        });
        let (all, error) = read_all(Messages::new(body, LIMIT)).await;
        assert_eq!(
            (all.len(), error.map(|error| error.code())),
            (0, Some(code)),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn small_messages_that_are_ready_share_a_frame() {
    let mut body = answers((0..50).map(|_| Ok(frame(&[100]))).collect());
    let first = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
    let data = first.unwrap().unwrap().into_data().unwrap();
    assert!(data.len() > 50 * 100, "{}", data.len());
}
