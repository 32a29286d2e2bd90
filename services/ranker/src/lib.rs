//! The ranker service: CLIP scores pictures against captions.
//!
//! Pictures are resized and cropped beside the model's thread; the towers run on what several calls bring. A caption is embedded once a call.

mod config;
mod embed;
mod error;
mod grpc;
pub mod model;
mod score;
mod stream;

use std::future::Future;
use std::sync::Arc;

use easel_proto::v1::ranker_service_server::{RankerServiceServer, SERVICE_NAME};
use easel_proto::{FILE_DESCRIPTOR_SET, stage};
use easel_server::batcher::Batcher;
use easel_server::packages::{Loaded, Packages};
use easel_server::serve::Parts;
use easel_server::{Load, Readiness, StatusReporter};
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
use model::{Engine, Rows, Shape, Towers};

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
    let service = RankerServiceServer::new(grpc::Ranker::new(packages.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let parts = Parts {
        name: stage::RANKER,
        listener,
        routes: Routes::new(service),
        services: &[SERVICE_NAME],
        readiness: readiness.clone(),
        status: Arc::new(Reporter(packages.clone())),
        descriptors: FILE_DESCRIPTOR_SET,
    };
    let server = config.server.clone();
    let served = packages.serve(parts, &server, shutdown, move || start(load(&config)?, &config, &readiness)).await;
    packages.all().iter().filter_map(|package| package.stage.as_ref()).for_each(|clip| clip.batcher.stop());
    served
}

/// What this stage has of a package: nothing, where it does not rank.
type Stage = Option<Clip>;

struct Clip {
    shape: Shape,
    batcher: Batcher<Rows>,
    device: String,
}

/// Gives every engine its thread.
fn start(engines: Vec<Engine>, config: &Config, readiness: &Readiness) -> Result<Vec<Loaded<Stage>>, Error> {
    let mut loaded: Vec<Loaded<Stage>> = Vec::new();
    for Engine { name, digest, ranker } in engines {
        if loaded.iter().any(|other| other.name == name) {
            return Err(Error::Twice { name });
        }
        let clip = |Towers { shape, device, model }| {
            let batcher = Batcher::start(Rows { model, shape }, config.batching(), readiness.clone())?;
            Ok::<_, Error>(Clip { shape, batcher, device })
        };
        loaded.push(Loaded { name, digest, stage: ranker.map(clip).transpose()? });
    }
    if loaded.is_empty() { Err(Error::NoPackage) } else { Ok(loaded) }
}

struct Reporter(Packages<Stage>);

impl StatusReporter for Reporter {
    fn load(&self) -> Load {
        let clips = || self.0.all().iter().filter_map(|package| package.stage.as_ref());
        let sum = |count: fn(&Batcher<Rows>) -> usize| clips().map(|clip| count(&clip.batcher) as u32).sum();
        Load {
            queue_depth: sum(Batcher::waiting),
            queue_capacity: sum(Batcher::capacity),
            slots_in_use: sum(Batcher::admitted),
            slots_total: sum(Batcher::capacity),
            packages: self.0.names(),
            device: clips().next().map(|clip| clip.device.clone()).unwrap_or_default(),
            detail: String::new(),
        }
    }
}
