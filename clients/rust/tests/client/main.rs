//! The client against a gateway that plays a script.
#![allow(clippy::unwrap_used)]

mod calls;
mod example;
mod gateway;
mod generation;
mod trace;
