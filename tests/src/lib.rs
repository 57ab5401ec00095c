#![forbid(unsafe_code)]
//! The whole system under test. To be written.
