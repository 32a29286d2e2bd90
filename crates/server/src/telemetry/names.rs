//! Every name that telemetry uses. Values of metric labels must come from a small set: never a prompt, a request's
//! id or an address.

/// A metric: its name, meaning, unit and, for a histogram, the upper bounds of its buckets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    /// Its OpenTelemetry name; Prometheus shows "easel.queue.depth" as `easel_queue_depth`.
    pub name: &'static str,
    /// What it measures.
    pub help: &'static str,
    /// UCUM unit: "s", "{request}".
    pub unit: &'static str,
    /// Upper bounds of a histogram's buckets; empty for other kinds.
    pub bounds: &'static [f64],
}

/// Bounds for durations in seconds, from a millisecond to minutes.
pub const SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// Bounds for steps of a model in seconds, from a tenth of a millisecond to seconds.
pub const STEP_SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Bounds for rows of a batch.
pub const ROWS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 256.0];

/// Metrics.
pub mod metric {
    use super::{Metric, ROWS, SECONDS, STEP_SECONDS};

    const fn plain(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
        let bounds = &[];
        Metric { name, help, unit, bounds }
    }

    const fn spread(name: &'static str, unit: &'static str, bounds: &'static [f64], help: &'static str) -> Metric {
        Metric { name, help, unit, bounds }
    }

    /// Counter of calls that ended; labels: service, method, code. The request layer counts.
    pub const REQUESTS: Metric = plain("easel.requests", "{request}", "Calls that ended");
    /// Histogram of calls from head to the end of the response; labels: service, method. The request layer records.
    pub const REQUEST_DURATION: Metric =
        spread("easel.request.duration", "s", SECONDS, "Time from a call's arrival to the end of its response");
    /// Histogram of a stage's share of a generation, seen by the gateway; label: stage.
    pub const STAGE_LATENCY: Metric = spread("easel.stage.latency", "s", SECONDS, "Time a stage took in a generation");
    /// Gauge of requests that wait; label: stage. `serve` observes it.
    pub const QUEUE_DEPTH: Metric = plain("easel.queue.depth", "{request}", "Requests that wait for a slot");
    /// Gauge of slots in use; label: stage. `serve` observes it.
    pub const SLOTS_USED: Metric = plain("easel.slots.used", "{slot}", "Slots in use");
    /// Gauge of slots; label: stage. `serve` observes it.
    pub const SLOTS: Metric = plain("easel.slots", "{slot}", "Slots that exist");
    /// Histogram of the wait for the first image token, from the request's arrival.
    pub const TIME_TO_FIRST_TOKEN: Metric =
        spread("easel.time_to_first_token", "s", SECONDS, "Time from a request's arrival to its first image token");
    /// Histogram of steps of the model.
    pub const STEP_DURATION: Metric = spread("easel.step.duration", "s", STEP_SECONDS, "Time of one step of the model");
    /// Histogram of runs of a model that does not step; label: stage.
    pub const RUN_DURATION: Metric = spread("easel.run.duration", "s", SECONDS, "Time of one run of a model");
    /// Histogram of the rows in a step or run of the model; label: stage.
    pub const BATCH_ROWS: Metric = spread("easel.batch.rows", "{row}", ROWS, "Rows in a run of the model");
    /// Counter of pictures made; label: stage.
    pub const PICTURES: Metric = plain("easel.pictures", "{picture}", "Pictures completed");
    /// Counter of candidates given up before their end.
    pub const CANDIDATES_CANCELLED: Metric =
        plain("easel.candidates.cancelled", "{candidate}", "Candidates given up before they were complete");
    /// Counter of tokens; labels: stage, kind ("text" or "image").
    pub const TOKENS: Metric = plain("easel.tokens", "{token}", "Tokens processed");

    /// All of them.
    pub const ALL: &[&Metric] = &[
        &REQUESTS,
        &REQUEST_DURATION,
        &STAGE_LATENCY,
        &QUEUE_DEPTH,
        &SLOTS_USED,
        &SLOTS,
        &TIME_TO_FIRST_TOKEN,
        &STEP_DURATION,
        &RUN_DURATION,
        &BATCH_ROWS,
        &PICTURES,
        &CANDIDATES_CANCELLED,
        &TOKENS,
    ];
}

/// Labels of metrics.
pub mod label {
    /// The gRPC service ("easel.v1.SamplerService").
    pub const SERVICE: &str = "service";
    /// The gRPC method ("Sample").
    pub const METHOD: &str = "method";
    /// The gRPC code by name ("OK", "RESOURCE_EXHAUSTED").
    pub const CODE: &str = "code";
    /// The stage ("sampler").
    pub const STAGE: &str = "stage";
    /// A kind among few ("text", "image").
    pub const KIND: &str = "kind";
}

/// Names of spans. A call's span is named after its method, "easel.v1.SamplerService/Sample".
pub mod span {
    /// The wait for a slot.
    pub const QUEUE: &str = "easel.queue";
    /// The computation of what all candidates share.
    pub const PREFILL: &str = "easel.prefill";
    /// One step of the batch; linked to the requests in it.
    pub const STEP: &str = "easel.step";
    /// One run of a model that does not step; linked to the requests in it.
    pub const RUN: &str = "easel.run";
    /// One generation, in the gateway.
    pub const GENERATE: &str = "easel.generate";
    /// A call to a stage, in the gateway; named after the work instead: "tokenize", "sample".
    pub const STAGE: &str = "easel.stage";
}

/// Attributes of spans.
pub mod attribute {
    /// The stage that made the span.
    pub const STAGE: &str = "easel.stage";
    /// Name of the package.
    pub const PACKAGE: &str = "easel.package";
    /// Digest of the package.
    pub const PACKAGE_DIGEST: &str = "easel.package.digest";
    /// Number of candidates.
    pub const CANDIDATES: &str = "easel.candidates";
    /// One candidate's number.
    pub const CANDIDATE: &str = "easel.candidate";
    /// Rows in a batch.
    pub const ROWS: &str = "easel.batch.rows";
    /// Slots held.
    pub const SLOTS: &str = "easel.slots";
    /// Place in the queue.
    pub const QUEUE_POSITION: &str = "easel.queue.position";
    /// "grpc".
    pub const RPC_SYSTEM: &str = "rpc.system";
    /// The gRPC service.
    pub const RPC_SERVICE: &str = "rpc.service";
    /// The gRPC method.
    pub const RPC_METHOD: &str = "rpc.method";
    /// The gRPC code as a number.
    pub const RPC_STATUS_CODE: &str = "rpc.grpc.status_code";
}
