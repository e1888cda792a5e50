//! Tests of field tables.
