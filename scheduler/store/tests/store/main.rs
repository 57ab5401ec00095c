//! The store against a real Postgres: every promise of the functions of schema `nightshift`, through the calls that
//! programs make, with the logins that they have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod access;
mod catalogue;
mod claims;
mod fences;
mod figures;
mod isolation;
mod lab;
mod lifecycle;
mod patience;
mod planning;
mod plans;
mod policy;
mod queue;
mod reasons;
mod retention;
mod schedules;
mod sizes;
mod submission;
mod suspects;
mod tails;
mod upgrade;
mod webhooks;
