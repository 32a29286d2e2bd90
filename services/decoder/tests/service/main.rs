//! The decoder over gRPC.
#![allow(clippy::unwrap_used, unreachable_pub)]

mod decode;
mod encode;
mod package;
mod pressure;
mod support;
