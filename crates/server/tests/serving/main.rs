//! A service over a socket: readiness, deadlines, drain, reflection.

mod deadline;
mod drain;
mod health;
mod panics;
mod reflection;
mod signals;
#[path = "../support/mod.rs"]
#[allow(unreachable_pub)]
mod support;
mod windows;
