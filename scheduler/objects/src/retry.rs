//! One retry budget per operation.
