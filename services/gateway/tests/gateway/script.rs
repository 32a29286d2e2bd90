//! What the stages are told to do, and what they have seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use easel_proto::v1::{
    EncodeRequest, Grid, Package, SampleRequest, SamplingParameters, TokenChunk, TokenizeRequest, decode_request,
    rank_request,
};
use easel_server::Deadline;
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Status};

/// What the stages have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) described: usize,
    pub(crate) tokenized: Vec<TokenizeRequest>,
    pub(crate) encoded: Vec<EncodeRequest>,
    pub(crate) sampled: Vec<SampleRequest>,
    pub(crate) decoding: Vec<decode_request::Header>,
    pub(crate) chunks: Vec<TokenChunk>,
    pub(crate) ranking: Vec<rank_request::Header>,
    pub(crate) ranked: usize,
    /// Streams that are open: by stage.
    pub(crate) open: HashMap<&'static str, usize>,
    /// Time left when the stage was called.
    pub(crate) time_left: HashMap<&'static str, Duration>,
    pub(crate) traces: HashMap<&'static str, String>,
    /// Which instance served.
    pub(crate) served: Vec<String>,
}

/// Shared by all fake stages of a suite.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) seen: Arc<watch::Sender<Seen>>,
    failures: Arc<Mutex<HashMap<&'static str, Status>>>,
    /// The sampler takes a permit for every chunk.
    pub(crate) chunks: Arc<Semaphore>,
    /// The decoder takes a permit for every chunk.
    pub(crate) decodes: Arc<Semaphore>,
    /// The ranker takes a permit for every Embed.
    pub(crate) embeds: Arc<Semaphore>,
    pub(crate) package: Arc<Mutex<Package>>,
}

const PLENTY: usize = 1 << 20;

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            seen: Arc::new(watch::Sender::new(Seen::default())),
            failures: Arc::default(),
            chunks: Arc::new(Semaphore::new(PLENTY)),
            decodes: Arc::new(Semaphore::new(PLENTY)),
            embeds: Arc::new(Semaphore::new(PLENTY)),
            package: Arc::new(Mutex::new(package())),
        }
    }

    /// From now on the sampler sends only as many chunks as it is given.
    pub(crate) fn hold_chunks(&self) {
        self.chunks.forget_permits(PLENTY);
    }

    pub(crate) fn hold_decodes(&self) {
        self.decodes.forget_permits(PLENTY);
    }

    pub(crate) fn hold_embeds(&self) {
        self.embeds.forget_permits(PLENTY);
    }

    /// `method` fails from now on; `None`: no longer.
    pub(crate) fn fail(&self, method: &'static str, status: Option<Status>) {
        let mut failures = self.failures.lock().unwrap();
        match status {
            Some(status) => failures.insert(method, status),
            None => failures.remove(method),
        };
    }

    pub(crate) fn outcome(&self, method: &'static str) -> Result<(), Status> {
        self.failures.lock().unwrap().get(method).map_or(Ok(()), |status| Err(status.clone()))
    }

    pub(crate) fn note(&self, note: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(note);
    }

    pub(crate) fn called<T>(&self, method: &'static str, request: &Request<T>) {
        let left = Deadline::of(request).map(Deadline::remaining);
        let trace = request.metadata().get("traceparent").map(|trace| trace.to_str().unwrap().to_owned());
        self.note(|seen| {
            seen.traces.extend(trace.map(|trace| (method, trace)));
            if let Some(left) = left {
                seen.time_left.insert(method, left);
            }
        });
    }

    /// Waits until the stages have seen something.
    pub(crate) async fn wait(&self, what: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), seen.wait_for(what)).await;
        match waited {
            Ok(seen) => seen.unwrap().clone(),
            Err(_) => panic!("the stages have only seen {:?}", self.seen.borrow()),
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

/// A call that is counted as open for as long as this lives.
pub(crate) struct Open(Script, &'static str);

impl Open {
    pub(crate) fn new(script: &Script, stage: &'static str) -> Self {
        script.note(|seen| *seen.open.entry(stage).or_default() += 1);
        Self(script.clone(), stage)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.note(|seen| *seen.open.entry(self.1).or_default() -= 1);
    }
}

/// 4 × 4 cells, 8 × 8 pixels.
pub(crate) fn package() -> Package {
    Package {
        name: "shapes".to_owned(),
        version: "1".to_owned(),
        digest: "d1".to_owned(),
        family: "dalle".to_owned(),
        grid: Some(Grid { rows: 4, columns: 4 }),
        image_width: 8,
        image_height: 8,
        codebook_size: 32,
        text_length: 8,
        text_vocabulary_size: 64,
        defaults: Some(SamplingParameters {
            temperature: Some(0.9),
            top_k: Some(0),
            top_p: Some(1.0),
            guidance_scale: Some(1.0),
        }),
        guidance: true,
        image_prompts: true,
        ranking: true,
        ..Package::default()
    }
}
