//! All five services in one process, over loopback gRPC: the same code and the same wire as five processes, without the orchestration.
//!
//! ```no_run
//! # async fn draw() -> Result<(), easel_standalone::Error> {
//! use easel_standalone::{Config, Suite};
//!
//! let suite = Suite::start(Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }).await?;
//! println!("the gateway answers at {}", suite.url());
//! suite.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod config;
mod embedded;
mod error;
mod ready;
mod stages;
mod suite;

pub use config::{Config, Device, Engine};
pub use easel_sampler::measure;
pub use error::Error;
pub use suite::{Suite, run};
