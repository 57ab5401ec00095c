//! From text to nodes with positions, within limits, and the mistakes that are found on the way.

pub(crate) mod diagnostic;
pub(crate) mod findings;
pub(crate) mod given;
pub(crate) mod nearest;
pub(crate) mod node;
pub(crate) mod scan;
