//! The sampler service: a transformer continues the caption with image tokens.
//!
//! The way of a request: [`grpc`] checks it and hands it to the [`engine`] of its package, whose one thread owns the [`model`], gives rows of the batch to
//! candidates ([`slots`]), takes the steps, and draws the tokens ([`logits`], [`draws`]). [`engine::Engine`] works without gRPC as well;
//! [`load`] gives the engines of packages.

mod config;
pub mod course;
pub mod draws;
pub mod engine;
mod error;
pub mod grpc;
pub mod logits;
pub mod measure;
pub mod model;
pub mod slots;
mod stage;
mod validate;

use std::{future::Future, sync::Arc};

use easel_proto::v1::sampler_service_server::{SERVICE_NAME, SamplerServiceServer};
use easel_server::{
    Readiness,
    packages::{Loaded, Packages},
    serve::Parts,
};
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
pub use stage::{Stage, load};

/// Loads the packages of `config` and serves `easel.v1.SamplerService` until `shutdown`.
///
/// # Errors
/// A bad option, a package that cannot be loaded, or a failure of the transport.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let readiness = Readiness::new();
    let dead = readiness.clone();
    let own = config.clone();
    let load = move || load(&own, move |reason| dead.unready(format!("the engine died: {reason}")));
    serve_with(listener, config, readiness, load, shutdown).await
}

/// As [`serve`], with stages of another origin: `load` runs on a thread of its own while calls are refused, and `readiness` is set when it is done.
///
/// # Errors
/// As [`serve`].
pub async fn serve_with(
    listener: TcpListener,
    config: Config,
    readiness: Readiness,
    load: impl FnOnce() -> Result<Vec<Loaded<Stage>>, Error> + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    config.validate()?;
    let packages = Packages::new();
    let parts = Parts {
        name: easel_proto::stage::SAMPLER,
        listener,
        routes: routes(&packages, &config),
        services: &[SERVICE_NAME],
        readiness,
        status: Arc::new(stage::Reporter(packages.clone())),
        descriptors: easel_proto::FILE_DESCRIPTOR_SET,
    };
    let served = packages.serve(parts, &config.server, shutdown, load).await;
    join(packages).await;
    served
}

fn routes(packages: &Packages<Stage>, config: &Config) -> Routes {
    let limit = config.server.max_message_bytes();
    let service = grpc::Service::new(packages.clone(), config.max_candidates);
    Routes::new(SamplerServiceServer::new(service).max_decoding_message_size(limit).max_encoding_message_size(limit))
}

/// Waits for the engines' threads. All calls have ended, so there is no work left but the step that is under way.
async fn join(packages: Packages<Stage>) {
    let stop = move || packages.all().iter().for_each(|package| package.stage.engine.stop());
    if let Err(error) = tokio::task::spawn_blocking(stop).await {
        tracing::error!(%error, "the engines could not be stopped");
    }
}
