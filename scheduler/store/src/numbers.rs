//! Numbers as the database counts: its integers have a sign.

/// Item numbers, seeds and sizes, which are below 2^63 by construction.
///
/// # Panics
/// It is not below 2^63: a bug of the caller.
#[must_use]
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("item numbers and seeds are below 2^63")
}

/// And back: the database's columns are checked to be at least 0.
///
/// # Panics
/// It is negative: somebody edited the tables by hand.
#[must_use]
pub fn unsigned(number: i64) -> u64 {
    u64::try_from(number).expect("the database numbers from 0")
}
