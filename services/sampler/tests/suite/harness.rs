//! Engines and services around a fake.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use clap::Parser;
use easel_proto::v1::{
    GetStatusRequest, GetStatusResponse, SampleRequest, SampleResponse, sample_request,
    sample_response::Event as Message, sampler_service_client::SamplerServiceClient,
    status_service_client::StatusServiceClient,
};
use easel_sampler::{
    Config, Error, Stage,
    engine::{Candidate, Engine, Event, Events, Options, Request, Statistics},
    logits::Parameters,
    model::Geometry,
    slots::Pool,
};
use easel_server::Readiness;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    fake::{Control, Fake, by_the_book},
    manifest::manifest,
};

/// Of the package that most tests draw with.
pub(crate) const GEOMETRY: Geometry = Geometry { text_length: 4, cells: 16, codebook: 32 };

/// Draws from all that the hash makes likely.
pub(crate) const PLAIN: Parameters = Parameters { temperature: 0.7, top_k: 20, top_p: 0.95, guidance_scale: 1.0 };

/// A request of a caption and candidates 0, 1, … with these seeds.
pub(crate) fn request(caption: u32, seeds: &[u64]) -> Request {
    let candidates = (0..).zip(seeds).map(|(id, &seed)| Candidate { id, seed }).collect();
    Request {
        text: vec![caption, 1, 18, 19],
        unconditional: None,
        candidates,
        parameters: PLAIN,
        given: Vec::new(),
        chunk_size: 4,
        deadline: None,
    }
}

/// The same with guidance.
pub(crate) fn guided(caption: u32, seeds: &[u64]) -> Request {
    let parameters = Parameters { guidance_scale: 3.0, ..PLAIN };
    Request { unconditional: Some(vec![16, 17, 18, 19]), parameters, ..request(caption, seeds) }
}

/// An engine over a fake, which has forgotten the steps of the start.
pub(crate) fn engine(options: Options) -> (Engine, Control) {
    engine_of(GEOMETRY, options)
}

pub(crate) fn engine_of(geometry: Geometry, options: Options) -> (Engine, Control) {
    let fake = Fake::new(geometry, Pool::sequences(options.rows));
    let control = fake.control.clone();
    let engine = Engine::start(fake, options, vec![16, 17, 18, 19], |_| ()).unwrap();
    control.reset();
    (engine, control)
}

/// What came of a candidate.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) tokens: Vec<u32>,
    pub(crate) statistics: Option<Statistics>,
}

/// Adds a chunk, which must follow the last.
fn add(drawn: &mut BTreeMap<u32, Drawn>, candidate: u32, start: u32, tokens: &[u32]) {
    let one = drawn.entry(candidate).or_default();
    assert_eq!(start as usize, one.tokens.len(), "the chunks of candidate {candidate} have a gap");
    assert!(one.statistics.is_none(), "candidate {candidate} was finished");
    one.tokens.extend_from_slice(tokens);
}

/// Reads a request to its end.
pub(crate) fn read(events: &mut Events) -> BTreeMap<u32, Drawn> {
    let mut drawn = BTreeMap::new();
    while let Some(event) = events.blocking_next() {
        match event.unwrap() {
            Event::Chunk { candidate, start, tokens } => add(&mut drawn, candidate, start, &tokens),
            Event::Finished { candidate, statistics } => {
                drawn.entry(candidate).or_default().statistics = Some(statistics);
            }
            Event::Queued { .. } | Event::Admitted { .. } => {}
        }
    }
    assert!(drawn.values().all(|one| one.statistics.is_some()));
    drawn
}

/// Holds what came of a request against the book.
pub(crate) fn check(request: &Request, drawn: &BTreeMap<u32, Drawn>) {
    check_of(GEOMETRY, request, drawn);
}

pub(crate) fn check_of(geometry: Geometry, request: &Request, drawn: &BTreeMap<u32, Drawn>) {
    check_with(|| Fake::new(geometry, 2), request, drawn);
}

/// The same for the fakes that `fake` makes.
pub(crate) fn check_with(fake: impl Fn() -> Fake, request: &Request, drawn: &BTreeMap<u32, Drawn>) {
    assert_eq!(drawn.len(), request.candidates.len());
    for candidate in &request.candidates {
        let (tokens, likelihoods) = by_the_book(&mut fake(), request, *candidate);
        let one = &drawn[&candidate.id];
        assert_eq!(one.tokens, tokens, "{candidate:?}");
        let statistics = one.statistics.unwrap();
        // To the bit: nothing else in the batch counts, and pauses do not.
        assert_eq!(likelihoods, (statistics.log_likelihood, statistics.unconditional_log_likelihood));
    }
}

/// The contract's form of a request.
pub(crate) fn message(request: &Request) -> SampleRequest {
    let candidate = |c: &Candidate| sample_request::Candidate { id: c.id, seed: c.seed };
    let Parameters { temperature, top_k, top_p, guidance_scale } = request.parameters;
    SampleRequest {
        text_tokens: request.text[..2].to_vec(),
        candidates: request.candidates.iter().map(candidate).collect(),
        parameters: Some(easel_proto::v1::SamplingParameters {
            temperature: Some(temperature),
            top_k: Some(top_k),
            top_p: Some(top_p),
            guidance_scale: Some(guidance_scale),
        }),
        chunk_size: request.chunk_size as u32,
        ..SampleRequest::default()
    }
}

/// Reads a response to its end.
pub(crate) async fn receive(mut stream: Streaming<SampleResponse>) -> Result<BTreeMap<u32, Drawn>, Status> {
    let mut drawn = BTreeMap::new();
    while let Some(response) = stream.message().await? {
        match response.event.unwrap() {
            Message::Chunk(chunk) => add(&mut drawn, chunk.candidate, chunk.start, &chunk.tokens),
            Message::Finished(finished) => {
                drawn.entry(finished.candidate).or_default().statistics = Some(Statistics {
                    log_likelihood: finished.log_likelihood,
                    unconditional_log_likelihood: finished.unconditional_log_likelihood,
                    ..Statistics::default()
                });
            }
            Message::Queued(_) | Message::Admitted(_) => {}
        }
    }
    Ok(drawn)
}

/// The service on a socket.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) control: Control,
    pub(crate) client: SamplerServiceClient<Channel>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

/// A configuration with these options.
pub(crate) fn config(options: &[&str]) -> Config {
    Config::parse_from(["easel-sampler", "--package", "none"].iter().chain(options))
}

impl Server {
    /// Serves a fake package "shapes" with the 4 × 4 grid.
    pub(crate) async fn start(options: &[&str]) -> Self {
        Self::with_grid(options, 4, 4).await
    }

    pub(crate) async fn with_grid(options: &[&str], rows: u32, columns: u32) -> Self {
        let config = config(options);
        let manifest = manifest("shapes", rows, columns);
        let fake = Fake::new(Geometry::of(&manifest), Pool::sequences(config.slots));
        let control = fake.control.clone();
        let readiness = Readiness::new();
        let (own, dead) = (config.clone(), readiness.clone());
        let load = move || {
            let died = move |reason: &str| dead.unready(reason);
            Ok(vec![Stage::start(manifest, "d1".repeat(32), fake, &own, died)?])
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(easel_sampler::serve_with(listener, config, readiness.clone(), load, shutdown));
        readiness.wait_ready().await;
        control.reset();
        let client = connect(address).await;
        Self { address, control, client, stop, task }
    }

    /// The same request as a call.
    pub(crate) async fn sample(&self, message: SampleRequest) -> Result<Streaming<SampleResponse>, Status> {
        Ok(self.client.clone().sample(message).await?.into_inner())
    }

    /// The signal to stop; what is returned resolves when the service has.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), Error>> {
        let _ = self.stop.send(());
        self.task
    }
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = easel_server::channel::endpoint(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

pub(crate) async fn connect(address: SocketAddr) -> SamplerServiceClient<Channel> {
    SamplerServiceClient::new(channel(address).await)
}

/// What the service says of itself, the first time that it is as wanted.
pub(crate) async fn status(address: SocketAddr, wanted: impl Fn(&GetStatusResponse) -> bool) -> GetStatusResponse {
    let mut client = StatusServiceClient::new(channel(address).await);
    loop {
        let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        if wanted(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

/// Runs blocking waits beside the service.
pub(crate) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Shares a test's request among tasks.
pub(crate) fn shared(request: Request) -> Arc<Request> {
    Arc::new(request)
}
