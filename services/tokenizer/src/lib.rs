//! The tokenizer service: a caption becomes text tokens.
//!
//! Each package brings its vocabularies as Hugging Face `tokenizer.json`: the sampler's, and CLIP's where it ranks. Text that looks like a special
//! token stays text, and every token tells which bytes of the prompt it covers.

mod config;
mod error;
mod grpc;
mod package;
mod vocabulary;
mod words;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use easel_proto::v1::tokenizer_service_server::{SERVICE_NAME, TokenizerServiceServer};
use easel_proto::{FILE_DESCRIPTOR_SET, stage};
use easel_server::packages::{Loaded, Packages};
use easel_server::serve::Parts;
use easel_server::{Load, Readiness, StatusReporter};
use tokio::net::TcpListener;
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
use package::Vocabularies;

/// Serves on `listener` until `shutdown` and the drain after it; ready as soon as the packages of `config` are loaded.
///
/// # Errors
/// A package or one of its vocabularies cannot be used, or the transport fails.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let packages = Packages::new();
    let limit = config.server.max_message_bytes();
    let service = TokenizerServiceServer::new(grpc::Tokenizer::new(packages.clone()))
        .max_decoding_message_size(limit)
        .max_encoding_message_size(limit);
    let parts = Parts {
        name: stage::TOKENIZER,
        listener,
        routes: Routes::new(service),
        services: &[SERVICE_NAME],
        readiness: Readiness::new(),
        status: Arc::new(Reporter(packages.clone())),
        descriptors: FILE_DESCRIPTOR_SET,
    };
    let folders = config.packages;
    packages.serve(parts, &config.server, shutdown, move || load(folders)).await
}

/// Opens the packages in `folders`, in order.
fn load(folders: Vec<PathBuf>) -> Result<Vec<Loaded<Vocabularies>>, Error> {
    let mut loaded: Vec<Loaded<Vocabularies>> = Vec::new();
    for folder in folders {
        let package = easel_package::Package::open(folder)?;
        let name = package.manifest().name.clone();
        if loaded.iter().any(|other| other.name == name) {
            return Err(Error::Twice { name });
        }
        let digest = package.digest().to_owned();
        loaded.push(Loaded { name, digest, stage: Vocabularies::load(&package)? });
    }
    if loaded.is_empty() { Err(Error::NoPackage) } else { Ok(loaded) }
}

struct Reporter(Packages<Vocabularies>);

impl StatusReporter for Reporter {
    fn load(&self) -> Load {
        Load { packages: self.0.names(), ..Load::default() }
    }
}
