//! Exporters to a collector over OTLP/gRPC. Each needs a tokio runtime around it when it is built.

use opentelemetry_otlp::{ExporterBuildError, LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;

use crate::Error;

fn refuse(error: ExporterBuildError) -> Error {
    Error::Telemetry { what: "the OTLP exporter", source: error.into() }
}

pub(super) fn spans(endpoint: &str) -> Result<SpanExporter, Error> {
    let builder = SpanExporter::builder().with_tonic();
    builder.with_endpoint(endpoint).build().map_err(refuse)
}

pub(super) fn metrics(endpoint: &str) -> Result<MetricExporter, Error> {
    let builder = MetricExporter::builder().with_tonic();
    builder.with_endpoint(endpoint).build().map_err(refuse)
}

pub(super) fn logs(endpoint: &str, resource: &Resource) -> Result<SdkLoggerProvider, Error> {
    let builder = LogExporter::builder().with_tonic();
    let exporter = builder.with_endpoint(endpoint).build().map_err(refuse)?;
    Ok(SdkLoggerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build())
}
