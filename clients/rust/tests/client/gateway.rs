//! A gateway that answers as a test wants it to.

use std::net::SocketAddr;
use std::pin::Pin;

use easel_client::Client;
use easel_proto::v1::gateway_service_server::{GatewayService, GatewayServiceServer};
use easel_proto::v1::generate_response::{Event, Finished, GeneratedPicture, Progress, Ranking, Started, ranking};
use easel_proto::v1::{
    EncodedImage, GatewayServiceClassifyRequest, GatewayServiceClassifyResponse, GatewayServiceEmbedRequest,
    GatewayServiceEmbedResponse, GenerateRequest, GenerateResponse, GetPackageRequest, GetPackageResponse, Grid,
    ListPackagesRequest, ListPackagesResponse, ListStagesRequest, ListStagesResponse, Package, PackageRef, RankBy,
    SamplingParameters, Stage,
};
use futures::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What a call of Generate is answered with. A prompt chooses.
pub(crate) const SILENCE: &str = "silence";
pub(crate) const BUSY: &str = "busy";
pub(crate) const CUT: &str = "cut";

pub(crate) struct Script {
    /// Metadata and message of each Generate.
    calls: mpsc::UnboundedSender<(MetadataMap, GenerateRequest)>,
    /// Told when a stream of events is dropped.
    dropped: mpsc::UnboundedSender<()>,
}

/// A running gateway and what it hears.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) calls: mpsc::UnboundedReceiver<(MetadataMap, GenerateRequest)>,
    pub(crate) dropped: mpsc::UnboundedReceiver<()>,
}

pub(crate) async fn start() -> Gateway {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ((calls, heard), (dropped, drops)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let service = GatewayServiceServer::new(Script { calls, dropped });
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let client = Client::connect(format!("http://{address}")).await.unwrap();
    Gateway { address, client, calls: heard, dropped: drops }
}

fn event(event: Event) -> Result<GenerateResponse, Status> {
    Ok(GenerateResponse { event: Some(event) })
}

fn started() -> Event {
    Event::Started(Started {
        package: Some(PackageRef { name: "scenes".into(), digest: "0a".into() }),
        seeds: vec![7, 8],
        parameters: Some(SamplingParameters { temperature: Some(1.0), ..Default::default() }),
        grid: Some(Grid { rows: 1, columns: 2 }),
        ..Default::default()
    })
}

fn picture(candidate: u32, clip_score: f32) -> Event {
    let image = EncodedImage { format: 2, width: 1, height: 1, data: vec![candidate as u8].into() };
    let (seed, image_tokens) = (7 + u64::from(candidate), vec![1, 2]);
    Event::Picture(GeneratedPicture {
        candidate,
        seed,
        image: Some(image),
        clip_score: Some(clip_score),
        image_tokens,
        log_likelihood: -1.0,
        unconditional_log_likelihood: Some(-2.0),
    })
}

fn ranking() -> Event {
    let entry = |candidate, seed, clip_score: f32| ranking::Entry {
        candidate,
        seed,
        clip_score: Some(clip_score),
        log_likelihood: -1.0,
        unconditional_log_likelihood: Some(-2.0),
        score: clip_score.into(),
    };
    Event::Ranking(Ranking { entries: vec![entry(1, 8, 0.3), entry(0, 7, 0.2)], rank_by: RankBy::Clip.into() })
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tonic::async_trait]
impl GatewayService for Script {
    type GenerateStream = Pin<Box<dyn Stream<Item = Result<GenerateResponse, Status>> + Send>>;

    async fn generate(&self, request: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let (metadata, _, message) = request.into_parts();
        let prompt = message.prompt.clone();
        let _ = self.calls.send((metadata, message));
        let progress = Progress { candidate: 0, tokens_done: 1, tokens_total: 2, tokens_per_second: 0.0 };
        let told = Told(self.dropped.clone());
        let events = match prompt.as_str() {
            "" => {
                let details = ErrorDetails::with_bad_request_violation("prompt", "is empty");
                return Err(Status::with_error_details(tonic::Code::InvalidArgument, "prompt: is empty", details));
            }
            BUSY => {
                let details = ErrorDetails::with_retry_info(Some(std::time::Duration::from_secs(3)));
                return Err(Status::with_error_details(tonic::Code::ResourceExhausted, "the queue is full", details));
            }
            CUT => vec![event(started()), event(Event::Progress(progress))],
            SILENCE => {
                let begin = futures::stream::iter([event(started())]);
                let silence = begin.chain(futures::stream::pending()).map(move |event| {
                    let _ = &told;
                    event
                });
                return Ok(Response::new(silence.boxed()));
            }
            _ => vec![
                event(started()),
                event(Event::Progress(progress)),
                event(picture(0, 0.2)),
                event(picture(1, 0.3)),
                event(ranking()),
                event(Event::Finished(Finished { tokens_drawn: 4, ..Default::default() })),
            ],
        };
        Ok(Response::new(futures::stream::iter(events).boxed()))
    }

    async fn list_packages(&self, _: Request<ListPackagesRequest>) -> Result<Response<ListPackagesResponse>, Status> {
        let packages = vec![Package { name: "scenes".into(), ..Default::default() }];
        Ok(Response::new(ListPackagesResponse { packages }))
    }

    async fn get_package(&self, request: Request<GetPackageRequest>) -> Result<Response<GetPackageResponse>, Status> {
        let package = Package { name: request.into_inner().name, ..Default::default() };
        Ok(Response::new(GetPackageResponse { package: Some(package) }))
    }

    async fn classify(
        &self,
        request: Request<GatewayServiceClassifyRequest>,
    ) -> Result<Response<GatewayServiceClassifyResponse>, Status> {
        use easel_proto::v1::gateway_service_classify_response::Entry;
        let request = request.into_inner();
        let entries = request.labels.into_iter().map(|label| Entry {
            label,
            probability: 0.5,
            clip_score: 0.1,
            ..Entry::default()
        });
        Ok(Response::new(GatewayServiceClassifyResponse { entries: entries.collect() }))
    }

    async fn embed(
        &self,
        request: Request<GatewayServiceEmbedRequest>,
    ) -> Result<Response<GatewayServiceEmbedResponse>, Status> {
        let request = request.into_inner();
        let embedding = |length: usize| easel_proto::v1::Embedding { values: vec![length as f32] };
        Ok(Response::new(GatewayServiceEmbedResponse {
            texts: request.texts.iter().map(|text| embedding(text.len())).collect(),
            images: request.images.iter().map(|image| embedding(image.len())).collect(),
        }))
    }

    async fn list_stages(&self, _: Request<ListStagesRequest>) -> Result<Response<ListStagesResponse>, Status> {
        let stage = Stage { name: "sampler".into(), error: "connection refused".into(), ..Default::default() };
        Ok(Response::new(ListStagesResponse { stages: vec![stage] }))
    }
}
