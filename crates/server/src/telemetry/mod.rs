//! Traces, metrics and logs: set up once in a process, used through `tracing` and the functions here.

mod format;
mod instruments;
pub mod names;
mod otlp;
mod prometheus;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, ParseError, Targets};
use tracing_subscriber::layer::{Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use self::instruments::{counter, gauge, histogram, meter, up_down_counter};
use self::prometheus::MetricsServer;
use crate::config::LogFormat;
use crate::{Config, Error};

/// How long the last export may take.
const FLUSH_TIME: Duration = Duration::from_secs(5);

/// What carries the export itself: it must not be exported in turn.
const TRANSPORT: &[&str] = &["h2", "hyper", "hyper_util", OPENTELEMETRY, "tonic", "tower"];
/// Begins the targets of all its crates.
const OPENTELEMETRY: &str = "opentelemetry";

/// The telemetry of the process. Hand it to [`Telemetry::shutdown`] at the end, or what was last recorded is lost.
#[derive(Debug)]
#[must_use = "what was last recorded is lost unless it is shut down"]
pub struct Telemetry {
    traces: SdkTracerProvider,
    metrics: SdkMeterProvider,
    logs: Option<SdkLoggerProvider>,
    server: Option<MetricsServer>,
}

/// Sets up the process's telemetry as service "easel-`service`": logs to standard error, a Prometheus endpoint
/// where `config` has an address for it, OTLP traces, metrics and logs where it has a collector, W3C trace
/// context. Once in a process, inside a tokio runtime, before any service and any instrument is built; the
/// standalone does it for all its services.
///
/// # Errors
/// [`Error::Config`] for a bad option, [`Error::MetricsListen`] when the address is taken,
/// [`Error::Telemetry`] when a part cannot be built or the process has telemetry already.
pub fn init(service: &'static str, config: &Config) -> Result<Telemetry, Error> {
    config.validate()?;
    let resource = Resource::builder()
        .with_service_name(format!("easel-{service}"))
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let endpoint = config.otlp_endpoint.as_deref();
    let registry = ::prometheus::Registry::new();
    let server = config.metrics_listen.map(|address| MetricsServer::start(address, registry.clone()));
    let telemetry = Telemetry {
        traces: traces(endpoint, config, &resource)?,
        metrics: metrics(endpoint, registry, &resource)?,
        logs: endpoint.map(|endpoint| otlp::logs(endpoint, &resource)).transpose()?,
        server: server.transpose()?,
    };
    subscribe(config, &telemetry)?;
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    opentelemetry::global::set_tracer_provider(telemetry.traces.clone());
    opentelemetry::global::set_meter_provider(telemetry.metrics.clone());
    Ok(telemetry)
}

impl Telemetry {
    /// Where metrics are served; none when they are not.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(MetricsServer::address)
    }

    /// Flushes and ends the export. Blocks until the collector has it all, for some seconds where it does not answer:
    /// on a runtime of one thread call it by `spawn_blocking`.
    pub fn shutdown(self) {
        // A collector that is gone is no reason for a service to fail at its end, but one to say so.
        let flushed = [
            ("traces", self.traces.shutdown_with_timeout(FLUSH_TIME)),
            ("metrics", self.metrics.shutdown_with_timeout(FLUSH_TIME)),
        ];
        for (what, result) in flushed {
            if let Err(error) = result {
                tracing::warn!(%error, what, "telemetry was lost");
            }
        }
        // Logs last: they may tell of the others.
        if let Some(logs) = self.logs {
            let _ = logs.shutdown_with_timeout(FLUSH_TIME);
        }
    }
}

/// Spans get identities with or without a collector: logs and the next services need them.
fn traces(endpoint: Option<&str>, config: &Config, resource: &Resource) -> Result<SdkTracerProvider, Error> {
    let sampler = Sampler::TraceIdRatioBased(config.trace_sample_ratio);
    let mut builder = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Sampler::ParentBased(Box::new(sampler)));
    if let Some(endpoint) = endpoint {
        builder = builder.with_batch_exporter(otlp::spans(endpoint)?);
    }
    Ok(builder.build())
}

fn metrics(
    endpoint: Option<&str>,
    registry: ::prometheus::Registry,
    resource: &Resource,
) -> Result<SdkMeterProvider, Error> {
    let mut builder =
        SdkMeterProvider::builder().with_resource(resource.clone()).with_reader(prometheus::reader(registry)?);
    if let Some(endpoint) = endpoint {
        builder = builder.with_periodic_exporter(otlp::metrics(endpoint)?);
    }
    Ok(builder.build())
}

fn subscribe(config: &Config, telemetry: &Telemetry) -> Result<(), Error> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.with_ansi(false).event_format(format::Json).boxed(),
    };
    let spans = tracing_opentelemetry::layer().with_tracer(telemetry.traces.tracer("easel"));
    let logs = telemetry.logs.as_ref().map(OpenTelemetryTracingBridge::new);
    tracing_subscriber::registry()
        .with(lines.with_filter(wanted(&config.log)?))
        .with(spans.with_filter(ours(LevelFilter::INFO)))
        .with(logs.with_filter(ours(LevelFilter::TRACE)).with_filter(wanted(&config.log)?))
        .try_init()
        .map_err(|error| Error::Telemetry { what: "a process has one telemetry", source: error.into() })
}

/// What `filter` lets through. OpenTelemetry's own news at info is for its developers: it comes only where `filter` names it.
fn wanted<S>(filter: &str) -> Result<impl Filter<S> + Send + Sync + 'static, Error>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let refuse = |error: ParseError| Error::Config { option: "log", reason: error.to_string() };
    Ok(EnvFilter::builder().parse(filter).map_err(refuse)?.and(bounds(filter)))
}

/// What a filter that does not name OpenTelemetry lets through of it: no news.
fn bounds(filter: &str) -> Targets {
    let level = match filter.contains(OPENTELEMETRY) {
        true => LevelFilter::TRACE,
        false => LevelFilter::WARN,
    };
    Targets::new().with_default(LevelFilter::TRACE).with_target(OPENTELEMETRY, level)
}

/// Everything up to `level`, except the transport of the export.
fn ours(level: LevelFilter) -> Targets {
    let targets = Targets::new().with_default(level);
    targets.with_targets(TRANSPORT.iter().map(|target| (*target, LevelFilter::OFF)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_news_of_opentelemetry_is_shown_only_when_asked_for() {
        let shows = |filter, level| bounds(filter).would_enable("opentelemetry_sdk", &level);
        assert!(!shows("info", tracing::Level::INFO));
        assert!(shows("info", tracing::Level::WARN));
        assert!(shows("error,opentelemetry=info", tracing::Level::INFO));
        assert!(bounds("info").would_enable("easel_server", &tracing::Level::DEBUG));
    }
}
