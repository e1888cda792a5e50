//! Room for large answers: what clients together have asked for and not read yet is bounded. Some may be asked for without a
//! login.

use crate::App;
use crate::bodies::{SMALL, permits};
use crate::error::ApiError;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Bytes of answers that are not read yet, at most; an answer that is larger is sent alone.
const ROOM_MAX: u64 = 128 << 20;
/// A node with little memory has this for them.
const ROOM_LEAST: u64 = 8 << 20;
/// No more than this part of the memory is for them.
const SHARE: u64 = 20;
/// Answers that wait for room, at most. They are in memory too.
const WAITING: usize = 4;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that are handed on at a time.
const PIECE: usize = 64 << 10;

/// The room for answers.
pub(crate) struct Room {
    max: u64,
    free: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Room {
    /// For a node that may use so many bytes of memory.
    pub(crate) fn within(memory_bytes: u64) -> Self {
        let max = (memory_bytes / SHARE).clamp(ROOM_LEAST, ROOM_MAX);
        Self {
            max,
            free: Arc::new(Semaphore::new(permits(max) as usize)),
            waiting: Semaphore::new(WAITING),
        }
    }

    /// Takes the room for an answer of `size` bytes, perhaps after others were read; `None`: there is none.
    async fn take(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let permits = permits(size.min(self.max));
        if let Ok(room) = Arc::clone(&self.free).try_acquire_many_owned(permits) {
            return Some(room);
        }
        let _place = self.waiting.try_acquire().ok()?;
        let room = Arc::clone(&self.free).acquire_many_owned(permits);
        timeout(PATIENCE, room).await.ok()?.ok()
    }
}

/// Sends an answer when there is room for it, which it has until it is read.
pub(crate) async fn bounded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let answer = next.run(request).await;
    // What has no size yet is made while it is read.
    let size = answer.body().size_hint().exact();
    let Some(size) = size.filter(|size| *size > SMALL) else {
        return answer;
    };
    let Some(room) = app.answers.take(size).await else {
        let text = "other large answers have not been read yet: try again later";
        return ApiError::Unavailable(text.into()).into_response();
    };
    let (head, body) = answer.into_parts();
    // It is in memory, in one piece.
    match to_bytes(body, usize::MAX).await {
        Ok(left) => Response::from_parts(head, Body::new(InRoom { left, _room: room })),
        Err(error) => ApiError::Unavailable(error.to_string()).into_response(),
    }
}

/// An answer that is handed on in pieces, each when the one before was sent: only then is it known what was read.
struct InRoom {
    left: Bytes,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for InRoom {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.left.len().min(PIECE);
        let piece = self.left.split_to(piece);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn large_answers_wait_for_each_other() {
        let room = Room::within(u64::MAX);
        let first = room.take(ROOM_MAX / 2).await;
        assert!(first.is_some());
        let second = room.take(ROOM_MAX / 2).await;
        assert!(second.is_some());
        assert!(room.take(SMALL).await.is_none(), "after a while");
        // Those that wait are in memory too: there are not many.
        let waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(room.take(SMALL))).collect();
        let mut waiting = futures::future::join_all(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        let before = tokio::time::Instant::now();
        assert!(room.take(SMALL).await.is_none());
        assert_eq!(tokio::time::Instant::now(), before, "at once");
        drop(first);
        assert!(waiting.await.iter().all(Option::is_some));
        drop(second);
        // One that is larger than the room takes all of it.
        assert!(room.take(u64::MAX).await.is_some());
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_keeps_its_room_to_the_end() {
        let room = Room::within(0);
        let sent = Bytes::from(vec![7; PIECE * 2 + 1]);
        let mut body = InRoom {
            left: sent.clone(),
            _room: room.take(ROOM_LEAST).await.expect("room"),
        };
        let mut read = Vec::new();
        while !body.is_end_stream() {
            assert_eq!(room.free.available_permits(), 0);
            let size = body.size_hint().exact();
            assert_eq!(size, Some((sent.len() - read.len()) as u64));
            let frame = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context));
            let piece = frame.await.expect("a piece").expect("no error");
            read.extend_from_slice(&piece.into_data().expect("data"));
        }
        assert_eq!(read, sent);
        drop(body);
        let all = permits(ROOM_LEAST) as usize;
        assert_eq!(room.free.available_permits(), all);
    }
}
