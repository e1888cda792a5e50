//! The query of a request. What cannot be read of it is told as JSON, as all else is.

use crate::error::ApiError;
use axum::extract::FromRequestParts;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use std::collections::HashSet;

/// As axum's own. Of a key that is repeated the first value counts, as with RabbitMQ.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = first_of_each(parts.uri.query().unwrap_or_default());
        let uri: Uri = format!("/?{query}")
            .parse()
            .map_err(|_| ApiError::BadRequest("the query cannot be read".into()))?;
        let read = axum::extract::Query::try_from_uri(&uri);
        let axum::extract::Query(read) =
            read.map_err(|rejection| ApiError::BadRequest(rejection.body_text()))?;
        Ok(Self(read))
    }
}

fn first_of_each(query: &str) -> String {
    let mut keys = HashSet::new();
    let pairs = query.split('&');
    let first: Vec<&str> = pairs
        .filter(|pair| keys.insert(pair.split('=').next()))
        .collect();
    first.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_counts() {
        assert_eq!(first_of_each("a=1&b=2&a=3&b&c"), "a=1&b=2&c");
        assert_eq!(first_of_each(""), "");
    }
}
