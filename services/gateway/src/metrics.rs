//! What the gateway counts.

use easel_server::telemetry::{self, names};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};

use crate::stages::Stage;
use crate::times::Times;

/// The gateway's instruments.
#[derive(Debug)]
pub(crate) struct Metrics {
    pictures: Counter<u64>,
    latency: Histogram<f64>,
}

impl Metrics {
    /// Build it once, after telemetry.
    pub(crate) fn new() -> Self {
        Self {
            pictures: telemetry::counter(&names::metric::PICTURES),
            latency: telemetry::histogram(&names::metric::STAGE_LATENCY),
        }
    }

    /// A picture went to a caller.
    pub(crate) fn picture(&self) {
        self.pictures.add(1, &[KeyValue::new(names::label::STAGE, Stage::Gateway.name())]);
    }

    /// A generation is over: the share of each stage.
    pub(crate) fn generation(&self, times: &Times) {
        for stage in Stage::ALL {
            let seconds = times.busy(stage).as_secs_f64();
            self.latency.record(seconds, &[KeyValue::new(names::label::STAGE, stage.name())]);
        }
    }
}
