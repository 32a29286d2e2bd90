//! The gateway in front of stages that do as they are told, over real sockets.
#![allow(clippy::unwrap_used)]

mod calls;
mod faults;
mod flow;
mod generate;
mod invalid;
mod ranking;
mod script;
mod stages;
mod suite;
