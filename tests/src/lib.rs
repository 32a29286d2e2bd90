//! What the tests that cross services share: packages, and suites of real processes.
#![allow(clippy::unwrap_used)]

mod drawing;
mod package;
mod process;
mod suite;

pub use drawing::{Drawing, client, collect, draw, request};
pub use package::{embedded, tiny};
pub use process::Process;
pub use suite::{Options, Suite};
