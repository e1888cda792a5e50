//! The calling end.

use super::read::Messages;
use super::scatter::Scatter;
use super::write::Written;
use crate::net::PeerChannel;
use futures::stream::{Stream, StreamExt};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use prost::Message;
use std::future::poll_fn;
use tonic::body::Body;
use tonic::{Code, Status};
use tower_service::Service as _;

/// Calls `path` (`/package.Service/Method`) with a stream of requests; returns when the peer begins to answer. Messages
/// of more than `limit` bytes are neither sent nor taken.
///
/// # Errors
/// The peer cannot be reached, or refuses the call.
pub async fn call<Q: Scatter, A: Message + Default>(
    mut channel: PeerChannel,
    path: &'static str,
    requests: impl Stream<Item = Q> + Send + 'static,
    limit: usize,
) -> Result<Messages<A>, Status> {
    let body = Body::new(Written::requests(requests.boxed(), limit));
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    poll_fn(|context| channel.poll_ready(context))
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    let answer = channel
        .call(request)
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    if let Some(status) = Status::from_header_map(answer.headers())
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    if answer.status() != http::StatusCode::OK {
        return Err(Status::unknown(format!("HTTP status {}", answer.status())));
    }
    Ok(Messages::new(Body::new(answer.into_body()), limit))
}
