//! What every Easel service shares: configuration, telemetry, health, limits, drain, errors.
//!
//! A service's main is then a table of contents:
//!
//! ```ignore
//! let stop = serve::shutdown_signal()?;
//! let telemetry = telemetry::init("sampler", &config.server)?;
//! let readiness = Readiness::new();
//! // Build the service, load the model elsewhere, and call `readiness.ready()` when it is warm.
//! serve::serve(Parts { name: "sampler", readiness, .. }, &config.server, stop).await?;
//! telemetry.shutdown();
//! ```
//!
//! Unlike the other shared crates it knows the contract: it implements `easel.v1.StatusService` once for
//! all services.

pub mod batcher;
pub mod call;
pub mod cancel;
pub mod channel;
pub mod config;
mod connection;
pub mod drain;
mod error;
pub mod exit;
mod health;
pub mod layer;
pub mod packages;
pub mod picture;
mod readiness;
mod report;
pub mod serve;
pub mod status;
pub mod telemetry;

pub use call::Deadline;
pub use config::Config;
pub use error::Error;
pub use readiness::{Readiness, State};
pub use report::{Load, StatusReporter};
