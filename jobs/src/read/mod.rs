//! From the document to values: each block of a spec, checked and read. Each part writes every mistake it finds and goes on with what is left.

pub(crate) mod captions;
pub(crate) mod cells;
pub(crate) mod check;
pub(crate) mod header;
pub(crate) mod input;
pub(crate) mod matrix;
pub(crate) mod output;
pub(crate) mod running;
pub(crate) mod trial;
pub(crate) mod unique;
