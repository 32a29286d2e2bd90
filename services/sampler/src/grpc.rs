//! The contract on one side, the engine on the other. No arithmetic.

use std::pin::Pin;

use easel_proto::v1::{
    SampleRequest, SampleResponse, TokenChunk,
    sample_response::{self, Admitted, Finished, Queued},
    sampler_service_server::SamplerService,
};
use easel_server::{Deadline, packages::Packages, status};
use futures::{Stream, StreamExt};
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::{
    engine::{Event, Failure, Refusal},
    stage::Stage,
};

/// `easel.v1.SamplerService`.
#[derive(Debug)]
pub struct Service {
    packages: Packages<Stage>,
    max_candidates: usize,
}

impl Service {
    /// Serves the loaded `packages`, and refuses calls until there are any.
    pub fn new(packages: Packages<Stage>, max_candidates: usize) -> Self {
        Self { packages, max_candidates }
    }
}

#[tonic::async_trait]
impl SamplerService for Service {
    type SampleStream = Pin<Box<dyn Stream<Item = Result<SampleResponse, Status>> + Send>>;

    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<Self::SampleStream>, Status> {
        let deadline = Deadline::of(&request);
        let mut message = request.into_inner();
        let stage = &self.packages.find(message.package.take().as_ref())?.stage;
        let mut request = stage.request(message, self.max_candidates)?;
        request.deadline = deadline.map(Deadline::instant);
        let span = Span::current();
        tracing::debug!(parent: &span, candidates = request.candidates.len(), ?request.parameters, "sample");
        let events = stage.engine.submit(request)?;
        // Dropping the stream drops the events, which gives the request up.
        Ok(Response::new(Box::pin(events.map(|event| Ok(response(event?))))))
    }
}

fn response(event: Event) -> SampleResponse {
    use sample_response::Event as Message;
    let event = match event {
        Event::Queued { position, estimated_wait } => {
            Message::Queued(Queued { position, estimated_wait_seconds: estimated_wait.as_secs_f64() })
        }
        Event::Admitted { rows, rows_total, waited, prefill_tokens } => Message::Admitted(Admitted {
            slots: rows,
            slots_total: rows_total,
            queue_seconds: waited.as_secs_f64(),
            prefill_tokens,
        }),
        Event::Chunk { candidate, start, tokens } => Message::Chunk(TokenChunk { candidate, start, tokens }),
        Event::Finished { candidate, statistics } => Message::Finished(Finished {
            candidate,
            steps: statistics.steps,
            prefill_seconds: statistics.prefill.as_secs_f64(),
            step_seconds: statistics.stepping.as_secs_f64(),
            mean_batch_rows: statistics.mean_batch_rows,
            log_likelihood: statistics.log_likelihood,
            unconditional_log_likelihood: statistics.unconditional_log_likelihood,
        }),
    };
    SampleResponse { event: Some(event) }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let soon = std::time::Duration::from_secs(1);
        match &refusal {
            Refusal::Full { retry_after } => status::exhausted("the queue is full", *retry_after),
            Refusal::Stopping => status::unavailable("draining", soon),
            Refusal::Dead(_) => status::unavailable("the sampler's engine died", soon),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::Deadline => status::deadline_exceeded(),
            Failure::Stalled(_) => Status::aborted(failure.to_string()),
            Failure::Model(_) | Failure::Died => status::internal(&failure),
        }
    }
}
