//! Tests of the frame writers.
