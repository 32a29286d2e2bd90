//! One Generate call: its drawing in the background, its events to the caller.

use std::sync::Arc;
use std::time::Duration;

use easel_proto::v1::generate_response::{self, Finished, GeneratedPicture, Preview};
use easel_proto::v1::{GenerateResponse, Picture};
use easel_server::cancel::{CancellationToken, guarded_stream};
use easel_server::telemetry::names;
use easel_server::{Deadline, status};
use futures::Stream;
use tonic::Status;
use tracing::Instrument;

use crate::board::Complete;
use crate::gateway::Gateway;
use crate::guard::Place;
use crate::outbox::{Event, Outbox};
use crate::pipeline::Drawing;
use crate::plan::Plan;
use crate::stages::Stage;
use crate::times::Times;

/// How long after the deadline the work is given up that no stage holds up, but its caller, who does not read.
const NAMING: Duration = Duration::from_millis(20);

/// A call's parts that its drawing and its stream of events share.
struct Generation {
    gateway: Arc<Gateway>,
    plan: Plan,
    times: Times,
    outbox: Outbox,
}

/// Draws `plan` until `deadline`, holding `place`; the stream has its events. Dropping the stream stops all stages.
pub(crate) fn start(
    gateway: Arc<Gateway>,
    plan: Plan,
    times: Times,
    deadline: Deadline,
    place: Option<Place>,
) -> impl Stream<Item = Result<GenerateResponse, Status>> + Send + 'static {
    let generation = Arc::new(Generation { gateway, plan, times, outbox: Outbox::new() });
    let token = CancellationToken::new();
    let span = tracing::info_span!(
        names::span::GENERATE,
        easel.package = generation.plan.package.name,
        easel.candidates = generation.plan.candidates()
    );
    let work = draw(generation.clone(), deadline, token.clone());
    let task = async move {
        work.await;
        drop(place);
    };
    tokio::spawn(task.instrument(span));
    let events = futures::stream::unfold(generation, |generation| async {
        let event = match generation.outbox.next().await? {
            Ok(event) => generation.present(event).await,
            Err(status) => Err(status),
        };
        Some((event, generation))
    });
    guarded_stream(events, token)
}

async fn draw(generation: Arc<Generation>, deadline: Deadline, token: CancellationToken) {
    // A panic must not leave the caller waiting for the deadline.
    let _closing = Closing(&generation.outbox);
    let work = async {
        let Generation { gateway, plan, times, outbox } = &*generation;
        let result = Drawing::new(&gateway.stages, plan, deadline, times, outbox).run().await;
        if let Err(status) = &result {
            gateway.packages.doubt(status);
        }
        outbox.close(result);
        outbox.emptied().await;
    };
    // A stage that is waited for ends the work by itself, and is named.
    let timed = tokio::time::timeout_at(deadline.0 + NAMING, work);
    if let Some(Err(_)) = token.run_until_cancelled(timed).await {
        generation.outbox.abort(status::deadline_exceeded());
    }
}

struct Closing<'a>(&'a Outbox);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close(Err(Status::internal("internal error")));
    }
}

impl Generation {
    /// An event as the caller gets it.
    async fn present(&self, event: Event) -> Result<GenerateResponse, Status> {
        use generate_response::Event as Told;
        let told = match event {
            Event::Queued(queued) => Told::Queued(queued),
            Event::Started(started) => Told::Started(*started),
            Event::Progress(progress) => Told::Progress(progress),
            // Room is given back when the picture is encoded.
            Event::Preview(preview, _room) => {
                let (candidate, tokens_done) = (preview.candidate, preview.tokens_done);
                let image = Some(self.encode(preview.picture).await?);
                Told::Preview(Preview { candidate, tokens_done, image })
            }
            Event::Picture(complete) => Told::Picture(self.picture(*complete).await?),
            Event::Ranking(ranking) => Told::Ranking(ranking),
            Event::Finished { tokens_drawn } => Told::Finished(self.finished(tokens_drawn)),
        };
        Ok(GenerateResponse { event: Some(told) })
    }

    async fn encode(&self, picture: Picture) -> Result<easel_proto::v1::EncodedImage, Status> {
        let encoding = self.gateway.edge.encode(picture, self.plan.encoding);
        self.times.during(Stage::Gateway, encoding).await
    }

    async fn picture(&self, complete: Complete) -> Result<GeneratedPicture, Status> {
        let image = Some(self.encode(complete.picture).await?);
        self.gateway.metrics.picture();
        Ok(GeneratedPicture {
            candidate: complete.candidate,
            seed: complete.seed,
            image,
            clip_score: complete.clip_score,
            image_tokens: complete.image_tokens,
            log_likelihood: complete.likelihood.conditional,
            unconditional_log_likelihood: complete.likelihood.unconditional,
        })
    }

    fn finished(&self, tokens_drawn: u32) -> Finished {
        self.gateway.metrics.generation(&self.times);
        let sampling = self.times.busy(Stage::Sampler).as_secs_f64();
        Finished {
            seeds: self.plan.seeds.clone(),
            stages: self.times.report(),
            total_seconds: self.times.elapsed().as_secs_f64(),
            tokens_drawn,
            tokens_per_second: if sampling > 0.0 { f64::from(tokens_drawn) / sampling } else { 0.0 },
        }
    }
}
