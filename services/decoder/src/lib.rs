//! The decoder service: image tokens become pixels, and pixels image tokens.
//!
//! A call's chunks grow its candidates' grids; partial grids become previews and whole ones pictures, in runs that several calls share. A call reads no
//! further chunk while its own pictures wait to be taken, so that a slow reader slows itself alone.

mod assembly;
mod config;
mod error;
mod grpc;
pub mod model;
mod pixels;
mod stream;

use std::future::Future;
use std::sync::Arc;

use easel_proto::v1::decoder_service_server::{DecoderServiceServer, SERVICE_NAME};
use easel_proto::{FILE_DESCRIPTOR_SET, stage};
use easel_server::batcher::Batcher;
use easel_server::packages::{Loaded, Packages};
use easel_server::serve::Parts;
use easel_server::{Load, Readiness, StatusReporter};
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
use model::{Engine, Rows};

/// Serves on `listener` until `shutdown` and the drain after it; ready as soon as the packages of `config` are loaded and have been run.
///
/// # Errors
/// A package cannot be used, the device cannot be had, or the transport fails.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    serve_engines(listener, config, shutdown, model::load).await
}

/// As [`serve`], with the engines that `load` gives: one for each package, the default first. It runs on a thread that may block.
///
/// # Errors
/// As `load`, or the transport fails.
pub async fn serve_engines(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
    load: impl FnOnce(&Config) -> Result<Vec<Engine>, Error> + Send + 'static,
) -> Result<(), Error> {
    let readiness = Readiness::new();
    let packages: Packages<Stage> = Packages::new();
    let limit = config.server.max_message_bytes();
    let service = DecoderServiceServer::new(grpc::Decoder::new(packages.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let parts = Parts {
        name: stage::DECODER,
        listener,
        routes: Routes::new(service),
        services: &[SERVICE_NAME],
        readiness: readiness.clone(),
        status: Arc::new(Reporter(packages.clone())),
        descriptors: FILE_DESCRIPTOR_SET,
    };
    let server = config.server.clone();
    let served = packages.serve(parts, &server, shutdown, move || start(load(&config)?, &config, &readiness)).await;
    packages.all().iter().for_each(|package| package.stage.batcher.stop());
    served
}

/// What this stage has of a package.
struct Stage {
    shape: model::Shape,
    batcher: Batcher<Rows>,
    device: String,
}

/// Gives every engine its thread.
fn start(engines: Vec<Engine>, config: &Config, readiness: &Readiness) -> Result<Vec<Loaded<Stage>>, Error> {
    let mut loaded: Vec<Loaded<Stage>> = Vec::new();
    for engine in engines {
        let Engine { name, digest, shape, device, model } = engine;
        if loaded.iter().any(|other| other.name == name) {
            return Err(Error::Twice { name });
        }
        let batcher = Batcher::start(Rows { model, shape }, config.batching(), readiness.clone())?;
        loaded.push(Loaded { name, digest, stage: Stage { shape, batcher, device } });
    }
    if loaded.is_empty() { Err(Error::NoPackage) } else { Ok(loaded) }
}

struct Reporter(Packages<Stage>);

impl StatusReporter for Reporter {
    fn load(&self) -> Load {
        let stages = || self.0.all().iter().map(|package| &package.stage);
        let sum = |count: fn(&Batcher<Rows>) -> usize| stages().map(|stage| count(&stage.batcher) as u32).sum();
        Load {
            queue_depth: sum(Batcher::waiting),
            queue_capacity: sum(Batcher::capacity),
            slots_in_use: sum(Batcher::admitted),
            slots_total: sum(Batcher::capacity),
            packages: self.0.names(),
            device: stages().next().map(|stage| stage.device.clone()).unwrap_or_default(),
            detail: String::new(),
        }
    }
}
