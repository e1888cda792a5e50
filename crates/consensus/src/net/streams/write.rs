//! Messages of a stream as they go.

use super::scatter::{Pieces, Scatter};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;

/// Small messages that are ready go together, up to about so many bytes.
const TOGETHER: usize = 32 << 10;

/// The body of a request or an answer.
pub(super) struct Written<M> {
    /// Until it has ended.
    messages: Option<BoxStream<'static, Result<M, Status>>>,
    pieces: Pieces,
    /// Largest message that is sent.
    limit: usize,
    /// What a stream of answers ends with, and what one of requests fails with.
    end: Option<Status>,
    answers: bool,
}

impl<M: Scatter> Written<M> {
    pub(super) fn requests(messages: BoxStream<'static, M>, limit: usize) -> Self {
        Self {
            messages: Some(messages.map(Ok).boxed()),
            pieces: Pieces::default(),
            limit,
            end: None,
            answers: false,
        }
    }

    pub(super) fn answers(messages: BoxStream<'static, Result<M, Status>>, limit: usize) -> Self {
        Self {
            messages: Some(messages),
            pieces: Pieces::default(),
            limit,
            end: Some(Status::ok("")),
            answers: true,
        }
    }

    fn put(&mut self, message: M) -> Result<(), Status> {
        let length = message.encoded_len();
        match u32::try_from(length) {
            Ok(wire) if length <= self.limit => {
                self.pieces.begin(wire);
                message.scatter(&mut self.pieces);
                Ok(())
            }
            _ => {
                let limit = self.limit;
                let why = format!("a message of {length} bytes, more than {limit}");
                Err(Status::out_of_range(why))
            }
        }
    }

    fn end_with(&mut self, status: Status) {
        self.messages = None;
        self.end = Some(status);
    }

    /// The last frame.
    fn last(&mut self) -> Option<Result<Frame<Bytes>, Status>> {
        let status = self.end.take()?;
        if !self.answers {
            return Some(Err(status));
        }
        let mut trailers = http::HeaderMap::new();
        Some(
            status
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        )
    }
}

impl<M: Scatter> Body for Written<M> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.pieces.pop() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.pieces.open() >= TOGETHER {
                this.pieces.close();
                continue;
            }
            let next = match &mut this.messages {
                Some(messages) => messages.poll_next_unpin(context),
                None => Poll::Ready(None),
            };
            match next {
                Poll::Ready(Some(Ok(message))) => {
                    if let Err(status) = this.put(message) {
                        this.end_with(status);
                    }
                }
                Poll::Ready(Some(Err(status))) => this.end_with(status),
                Poll::Ready(None) => {
                    this.messages = None;
                    if this.pieces.open() == 0 {
                        return Poll::Ready(this.last());
                    }
                    this.pieces.close();
                }
                Poll::Pending if this.pieces.open() > 0 => this.pieces.close(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
