//! A client library for Easel's gateway: a caption becomes ranked pictures, with live progress.
//!
//! ```no_run
//! use easel_client::{Client, Event, Generate};
//!
//! # async fn draw() -> Result<(), easel_client::Error> {
//! let client = Client::connect("http://127.0.0.1:50050").await?;
//! let request = Generate::prompt("an armchair in the shape of an avocado").candidates(8).seed(42);
//! let mut generation = client.generate(request).await?;
//! while let Some(event) = generation.event().await? {
//!     if let Event::Progress(progress) = event {
//!         println!("candidate {}: {} of {} tokens", progress.candidate, progress.tokens_done, progress.tokens_total);
//!     }
//! }
//! for picture in generation.finish().await?.pictures {
//!     picture.image.save(format!("{}.{}", picture.seed, picture.image.extension()))?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Generation`] is a [`futures::Stream`] as well. Dropping it cancels the work in every stage. Where the process has OpenTelemetry
//! set up, every call carries the trace context of the current span.

mod client;
mod error;
mod event;
mod generation;
mod image;
mod rank;
mod request;
mod trace;

pub use client::{Client, Embeddings, Label, MAX_MESSAGE_BYTES};
pub use error::{Error, Refusal, Violation};
pub use event::{Event, Picture, Preview, Started};
pub use generation::{Generation, Outcome};
pub use image::{Format, Image};
pub use rank::{RankBy, Ranked, Ranking};
pub use request::{Generate, Region};

pub use easel_proto::v1::generate_response::{Finished, Progress, Queued};
pub use easel_proto::v1::{
    GetStatusResponse as Status, Grid, Limits, Package, PackageRef, SamplingParameters, Stage, StageTime,
};
pub use tonic::Code;
