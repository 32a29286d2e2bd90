//! The gateway: conducts the four stages and streams a picture's progress.
//!
//! `pipeline` is the order of the work and the only place that knows it. `stages` finds and calls the stages, `plan`
//! checks what a caller asks for, `board` holds what is known of each candidate, `rank` what orders them, `outbox` what the caller is told,
//! `picture` the codecs at the edge, `guard` what happens to a call before it is read.

mod address;
mod board;
mod config;
mod error;
mod fault;
mod gateway;
mod generation;
mod grpc;
mod guard;
mod metrics;
mod outbox;
mod packages;
mod picture;
mod pipeline;
mod plan;
mod rank;
mod region;
mod seeds;
mod stages;
mod times;

use std::sync::Arc;

use easel_proto::v1::gateway_service_server::{self, GatewayServiceServer};
use easel_server::serve::{self, Parts};
use easel_server::{Readiness, StatusReporter};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::service::Routes;

pub use self::address::Address;
pub use self::config::Config;
pub use self::error::Error;
use self::gateway::Gateway;
use self::guard::Guard;
use self::stages::Stages;

/// Serves the gateway on `listener` until `shutdown`, then drains. Ready as soon as each stage has a replica that serves.
///
/// # Errors
/// [`Error::Server`] for an option that cannot work, or when the transport fails.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    config.validate()?;
    let stages = Arc::new(Stages::new(&config));
    let gateway = Arc::new(Gateway::new(&config, stages.clone()));
    let readiness = Readiness::new();
    // Aborted when this returns.
    let mut background = JoinSet::new();
    let checks = readiness.clone();
    background.spawn(async move { tokio::join!(stages.keep_resolved(), stages.keep_checked(checks)) });

    let message_bytes = config.server.max_message_bytes();
    let service = GatewayServiceServer::new(grpc::Service(gateway.clone()))
        .max_decoding_message_size(config.max_request_bytes())
        .max_encoding_message_size(message_bytes);
    let guarded = Guard::new(service, gateway.places.clone(), config.default_timeout());
    let parts = Parts {
        name: easel_proto::stage::GATEWAY,
        listener,
        routes: Routes::new(guarded),
        services: &[gateway_service_server::SERVICE_NAME],
        readiness,
        status: gateway as Arc<dyn StatusReporter>,
        descriptors: easel_proto::FILE_DESCRIPTOR_SET,
    };
    Ok(serve::serve(parts, &config.server, shutdown).await?)
}
