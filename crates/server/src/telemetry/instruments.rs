//! Instruments out of [`Metric`]s: name, help, unit and bounds always together.

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use super::names::Metric;

/// The meter that all of Easel's metrics belong to. Before [`init`](super::init) it measures nothing.
pub fn meter() -> Meter {
    opentelemetry::global::meter("easel")
}

/// A counter for `metric`. Build instruments after [`init`](super::init), once, and keep them.
pub fn counter(metric: &Metric) -> Counter<u64> {
    let meter = meter();
    let builder = meter.u64_counter(metric.name);
    builder.with_description(metric.help).with_unit(metric.unit).build()
}

/// A histogram for `metric`, with its bounds.
pub fn histogram(metric: &Metric) -> Histogram<f64> {
    let meter = meter();
    let builder = meter.f64_histogram(metric.name);
    builder.with_description(metric.help).with_unit(metric.unit).with_boundaries(metric.bounds.to_vec()).build()
}

/// A gauge for `metric`: the last value counts.
pub fn gauge(metric: &Metric) -> Gauge<u64> {
    let meter = meter();
    let builder = meter.u64_gauge(metric.name);
    builder.with_description(metric.help).with_unit(metric.unit).build()
}

/// A sum for `metric` that goes up and down.
pub fn up_down_counter(metric: &Metric) -> UpDownCounter<i64> {
    let meter = meter();
    let builder = meter.i64_up_down_counter(metric.name);
    builder.with_description(metric.help).with_unit(metric.unit).build()
}
