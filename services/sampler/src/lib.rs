//! The sampler service: a transformer continues the caption with image tokens.
//!
//! The way of a request: [`grpc`] checks it and hands it to the [`engine`] of its package, whose one thread owns the [`model`], gives rows of the batch to
//! candidates ([`slots`]), takes the steps, and draws the tokens ([`logits`], [`draws`]). [`engine::Engine`] works without gRPC as well;
//! [`load`] gives the engines of packages.

mod config;
pub mod draws;
pub mod engine;
mod error;
pub mod grpc;
pub mod logits;
pub mod model;
pub mod slots;
mod stage;
mod validate;

use std::{future::Future, sync::Arc, thread};

use easel_proto::v1::sampler_service_server::{SERVICE_NAME, SamplerServiceServer};
use easel_server::{Readiness, serve::Parts};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
pub use stage::{Stage, Stages, load};

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
    load: impl FnOnce() -> Result<Vec<Stage>, Error> + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    config.validate()?;
    readiness.unready("loading the model");
    let stages = Stages::default();
    let loading = spawn_load(load)?;
    let parts = Parts {
        name: easel_proto::stage::SAMPLER,
        listener,
        routes: routes(&stages, &config),
        services: &[SERVICE_NAME],
        readiness: readiness.clone(),
        status: Arc::new(stage::Reporter(stages.clone())),
        descriptors: easel_proto::FILE_DESCRIPTOR_SET,
    };
    let mut failure = None;
    let stop = async {
        tokio::pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => {}
            loaded = loading => match loaded.unwrap_or_else(|_| Err(Error::Loading("the thread died".to_owned()))) {
                Ok(loaded) => {
                    stages.set(loaded);
                    readiness.ready();
                    shutdown.await;
                }
                Err(error) => failure = Some(error),
            }
        }
    };
    let served = easel_server::serve::serve(parts, &config.server, stop).await;
    join(stages).await;
    failure.map_or(Ok(served?), Err)
}

/// Runs `load` on a thread of its own: not on the runtime's, which would wait for it at a shutdown.
fn spawn_load(
    load: impl FnOnce() -> Result<Vec<Stage>, Error> + Send + 'static,
) -> Result<oneshot::Receiver<Result<Vec<Stage>, Error>>, Error> {
    let (sender, receiver) = oneshot::channel();
    let spawned = thread::Builder::new().name("easel-load".to_owned()).spawn(move || {
        // Nobody waits for it any more when the service was stopped meanwhile.
        drop(sender.send(load()));
    });
    spawned.map_err(|error| Error::Loading(error.to_string()))?;
    Ok(receiver)
}

fn routes(stages: &Stages, config: &Config) -> Routes {
    let limit = config.server.max_message_bytes();
    let service = grpc::Service::new(stages.clone(), config.max_candidates);
    Routes::new(SamplerServiceServer::new(service).max_decoding_message_size(limit).max_encoding_message_size(limit))
}

/// Waits for the engines' threads. All calls have ended, so there is no work left but the step that is under way.
async fn join(stages: Stages) {
    if let Err(error) = tokio::task::spawn_blocking(move || stages.stop()).await {
        tracing::error!(%error, "the engines could not be stopped");
    }
}
