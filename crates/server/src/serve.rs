//! A service from its listener to the end of its drain.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use easel_proto::v1::status_service_server::{self, StatusServiceServer};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::pb::health_server::{self, HealthServer};

use crate::connection::Connection;
use crate::drain::Drain;
use crate::health::Health;
use crate::layer::RequestLayer;
use crate::report::{self, Report};
use crate::{Config, Error, Readiness, StatusReporter, channel};

/// Calls that one connection may have open at once.
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// How long connections without calls may take to close.
const CLOSE_TIME: Duration = Duration::from_secs(1);

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

/// Serves until `shutdown`, then drains: not ready, new calls refused with UNAVAILABLE, running calls finished or,
/// when the grace of `config` is over, cut. Idle connections do not delay the end. Adds health, reflection (v1 and
/// v1alpha), `easel.v1.StatusService`, the request layer and the gauges of load.
///
/// A service that is not ready yet is asked all the same: whether a call waits for the model or is refused is its own
/// decision.
///
/// # Errors
/// [`Error::Descriptors`] when the descriptors cannot be read, [`Error::Transport`] when the transport fails.
pub async fn serve(parts: Parts, config: &Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let (name, readiness) = (parts.name, parts.readiness.clone());
    let drain = Drain::new();
    let layer = RequestLayer::new(name, parts.descriptors, drain.clone())?;
    report::observe(name, &parts.status);
    let address = parts.listener.local_addr().ok().map(tracing::field::display);
    tracing::info!(service = name, address, "listening");
    let (listener, routes) = with_control(parts)?;

    let (closing, broken) = (CancellationToken::new(), CancellationToken::new());
    // However this function is left: connections do not outlive it, nor do the handlers of their calls.
    let _broken = broken.clone().drop_guard();
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .map(move |stream| stream.map(|stream| Connection::new(stream, broken.clone())));
    let mut server =
        pin!(transport().layer(layer).add_routes(routes).serve_with_incoming_shutdown(incoming, closing.cancelled()));

    tokio::select! {
        result = &mut server => return Ok(result?),
        () = shutdown => {}
    }
    tracing::info!(service = name, calls = drain.running(), "draining");
    readiness.drain();
    drain.begin();
    tokio::select! {
        result = &mut server => return Ok(result?),
        () = drain.finish(config.drain_grace()) => {}
    }
    // What is still open are watches of health and idle connections: end the former, say goodbye to the latter.
    drain.cut();
    closing.cancel();
    if let Ok(result) = tokio::time::timeout(CLOSE_TIME, server).await {
        result?;
    }
    tracing::info!(service = name, "stopped");
    Ok(())
}

/// The settings of HTTP/2, the same for all services.
fn transport() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(channel::KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(channel::KEEP_ALIVE_TIMEOUT))
        .http2_adaptive_window(Some(false))
        .initial_stream_window_size(channel::STREAM_WINDOW)
        .initial_connection_window_size(channel::CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
}

/// The service's own routes, and those that every service has.
fn with_control(parts: Parts) -> Result<(TcpListener, Routes), Error> {
    let health = Health { names: parts.services, readiness: parts.readiness.clone() };
    let report =
        Report { name: parts.name, readiness: parts.readiness, reporter: parts.status, started: Instant::now() };
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(parts.descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(status_service_server::SERVICE_NAME)
            .with_service_name(health_server::SERVICE_NAME);
        let names = parts.services.iter();
        names.fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let unreadable = |error| Error::Descriptors(Box::new(error));
    let routes = parts
        .routes
        .add_service(HealthServer::new(health))
        .add_service(StatusServiceServer::new(report))
        .add_service(reflection().build_v1().map_err(unreadable)?)
        .add_service(reflection().build_v1alpha().map_err(unreadable)?);
    Ok((parts.listener, routes))
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
