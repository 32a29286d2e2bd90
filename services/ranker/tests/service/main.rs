//! The ranker over gRPC.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod package;
mod rank;
mod support;
mod unary;
