//! Metrics in Prometheus' text format, at /metrics.

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use opentelemetry_prometheus::PrometheusExporter;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::Error;

/// Fills `registry` whenever it is gathered.
pub(super) fn reader(registry: Registry) -> Result<PrometheusExporter, Error> {
    let builder = opentelemetry_prometheus::exporter().with_registry(registry);
    builder.build().map_err(|error| Error::Telemetry { what: "the Prometheus registry", source: error.into() })
}

/// Serves a registry until it is dropped.
#[derive(Debug)]
pub(super) struct MetricsServer {
    address: SocketAddr,
    task: AbortHandle,
}

impl MetricsServer {
    pub(super) fn start(address: SocketAddr, registry: Registry) -> Result<Self, Error> {
        let refuse = |source| Error::MetricsListen { address, source };
        let listener = std::net::TcpListener::bind(address).map_err(refuse)?;
        listener.set_nonblocking(true).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let listener = TcpListener::from_std(listener).map_err(refuse)?;
        let router = Router::new().route("/metrics", get(async move || scrape(&registry)));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let task = serving.abort_handle();
        Ok(Self { address, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn scrape(registry: &Registry) -> Response {
    match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
