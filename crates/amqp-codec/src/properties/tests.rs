//! Tests of content headers.
