//! The sampler under test: the engine alone, the service over sockets, and a real package.
#![allow(clippy::unwrap_used)]

mod churn;
mod engine;
mod fake;
mod faults;
mod harness;
mod manifest;
mod package;
mod rules;
mod service;
