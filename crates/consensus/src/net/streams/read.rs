//! Messages of a stream as they come.

use super::PREFIX;
use super::rope::Rope;
use bytes::Buf;
use http_body::Body as _;
use prost::Message;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use tonic::body::Body;
use tonic::{Code, Status};

/// Receives messages; bytes in them share memory with what was received.
pub struct Messages<M> {
    body: Body,
    received: Rope,
    /// Of the message that is coming, once it is known.
    length: Option<usize>,
    /// Largest message that is taken.
    limit: usize,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Messages<M> {
    pub(super) fn new(body: Body, limit: usize) -> Self {
        Self {
            body,
            received: Rope::default(),
            length: None,
            limit,
            message: PhantomData,
        }
    }

    /// The next message; `None` when the sender has ended the stream. A wait that is given up loses nothing.
    ///
    /// # Errors
    /// The connection broke, the peer ended the call with an error, or what it sent is no such message.
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let frame = poll_fn(|context| Pin::new(&mut self.body).poll_frame(context)).await;
            let Some(frame) = frame.transpose()? else {
                let within = self.length.is_some() || self.received.has_remaining();
                return match within {
                    true => Err(Status::internal("the stream ended within a message")),
                    false => Ok(None),
                };
            };
            match frame.into_data() {
                Ok(data) => self.received.push(data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                        return Err(status);
                    }
                }
            }
        }
    }

    /// A message that has come as a whole.
    fn take(&mut self) -> Result<Option<M>, Status> {
        let length = match self.length {
            Some(length) => length,
            None if self.received.remaining() < PREFIX => return Ok(None),
            None => {
                if self.received.get_u8() != 0 {
                    return Err(Status::unimplemented("compressed messages"));
                }
                let length = self.received.get_u32() as usize;
                if length > self.limit {
                    let limit = self.limit;
                    let why = format!("a message of {length} bytes, more than {limit}");
                    return Err(Status::out_of_range(why));
                }
                self.length = Some(length);
                length
            }
        };
        if self.received.remaining() < length {
            return Ok(None);
        }
        self.length = None;
        let message = self.received.split_to(length);
        let message = M::decode(message).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Some(message))
    }
}
