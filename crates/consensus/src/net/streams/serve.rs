//! The serving end.

use super::read::Messages;
use super::scatter::Scatter;
use super::write::Written;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::header::{CONTENT_TYPE, HeaderValue};
use prost::Message;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower_service::Service;

/// A service with one method, which takes a stream of requests and answers with another.
pub trait BothWays: Send + Sync + 'static {
    /// `package.Service`.
    const SERVICE: &'static str;
    /// `/package.Service/Method`.
    const PATH: &'static str;
    /// What is asked.
    type Request: Message + Default + 'static;
    /// What is answered.
    type Answer: Scatter;

    /// Begins to answer. In the extensions of the request stands who calls ([`crate::Caller`]).
    ///
    /// # Errors
    /// The call is refused.
    fn begin(
        &self,
        request: tonic::Request<Messages<Self::Request>>,
    ) -> impl Future<Output = Result<BoxStream<'static, Result<Self::Answer, Status>>, Status>> + Send;
}

/// Serves it on the cluster port. Messages of more than `limit` bytes are neither sent nor taken.
#[derive(Debug)]
pub struct Serve<S> {
    service: Arc<S>,
    limit: usize,
}

impl<S: BothWays> Serve<S> {
    /// Serves `service`.
    pub fn new(service: S, limit: usize) -> Self {
        Self {
            service: Arc::new(service),
            limit,
        }
    }
}

impl<S> Clone for Serve<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            limit: self.limit,
        }
    }
}

impl<S: BothWays> NamedService for Serve<S> {
    const NAME: &'static str = S::SERVICE;
}

impl<S: BothWays> Service<http::Request<Body>> for Serve<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (service, limit) = (Arc::clone(&self.service), self.limit);
        async move {
            if request.uri().path() != S::PATH {
                return Ok(Status::unimplemented("no such method").into_http());
            }
            let request = tonic::Request::from_http(request);
            let request = request.map(|body| Messages::new(body, limit));
            Ok(match service.begin(request).await {
                Ok(answers) => {
                    let body = Body::new(Written::answers(answers, limit));
                    let mut answer = http::Response::new(body);
                    let grpc = HeaderValue::from_static("application/grpc");
                    answer.headers_mut().insert(CONTENT_TYPE, grpc);
                    answer
                }
                Err(status) => status.into_http(),
            })
        }
        .boxed()
    }
}
