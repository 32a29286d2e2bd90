//! A model of two dimensions whose runs wait for a word, served for real.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use easel_package::{Preprocess, Size};
use easel_proto::v1::ranker_service_client::RankerServiceClient;
use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_proto::v1::{
    GetStatusRequest, GetStatusResponse, PackageRef, Picture, RankRequest, RankResponse, TextTokens, rank_request,
};
use easel_ranker::model::{Engine, Model, Shape, Towers};
use easel_ranker::{Config, Error};
use easel_server::channel;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

pub const LONG: Duration = Duration::from_secs(20);
pub type Client = RankerServiceClient<Channel>;

pub const SHAPE: Shape = Shape {
    preprocess: Preprocess { size: Size { width: 2, height: 2 } },
    context_length: 4,
    vocabulary: 1000,
    pad: 999,
    embedding_width: 2,
    layout_width: 0,
    logit_scale: 100.0,
};

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap()
}

/// A run: what it was of, and the first number of each row.
pub type Run = (&'static str, Vec<u32>);

/// Takes the first number of a row for an angle in degrees. Told of every run, and, if there is a gate, waiting there for pictures.
struct Compass {
    runs: UnboundedSender<Run>,
    gate: Option<mpsc::Receiver<()>>,
}

fn direction(degrees: u32) -> [f32; 2] {
    let angle = (degrees as f32).to_radians();
    [angle.cos(), angle.sin()]
}

impl Model for Compass {
    fn embed_images(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        let rows: Vec<u32> = pixels.chunks(12).map(|row| row[0].into()).collect();
        let _ = self.runs.send(("images", rows.clone()));
        if let Some(gate) = &self.gate {
            gate.recv_timeout(LONG).unwrap();
        }
        Ok(rows.into_iter().flat_map(direction).collect())
    }

    fn embed_texts(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let texts = ids.chunks(SHAPE.context_length as usize);
        assert!(texts.clone().all(|ids| ids[1..].iter().all(|id| *id == SHAPE.pad)), "{ids:?}");
        let rows: Vec<u32> = texts.map(|ids| ids[0]).collect();
        let _ = self.runs.send(("texts", rows.clone()));
        Ok(rows.into_iter().flat_map(direction).collect())
    }
}

/// A compass whose embeddings have a layout, too: of pictures and of texts in opposite directions, as long as the rest.
struct Placed(Compass);

impl Placed {
    const SHAPE: Shape = Shape { embedding_width: 3, layout_width: 1, ..SHAPE };

    fn placed(directions: &[f32], layout: f32) -> Vec<f32> {
        let half = 0.5_f32.sqrt();
        directions.chunks(2).flat_map(|direction| [direction[0] * half, direction[1] * half, layout * half]).collect()
    }
}

impl Model for Placed {
    fn embed_images(&mut self, pixels: &[u8]) -> Result<Vec<f32>, Error> {
        Ok(Self::placed(&self.0.embed_images(pixels)?, 1.0))
    }

    fn embed_texts(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        Ok(Self::placed(&self.0.embed_texts(ids)?, -1.0))
    }
}

pub struct Service {
    pub client: Client,
    pub status: StatusServiceClient<Channel>,
    pub go: mpsc::Sender<()>,
    runs: UnboundedReceiver<Run>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Service {
    /// A service whose runs of pictures wait.
    pub async fn gated(config: Config) -> Self {
        Self::start(config, true).await
    }

    /// A service whose runs do not wait.
    pub async fn free() -> Self {
        Self::start(Config::new(vec![]), false).await
    }

    async fn start(config: Config, gated: bool) -> Self {
        let (told, runs) = unbounded_channel();
        let (go, gate) = mpsc::channel();
        let placed = Placed(Compass { runs: told.clone(), gate: None });
        let compass = Compass { runs: told, gate: gated.then_some(gate) };
        let towers = |shape, model: Box<dyn Model>| Some(Towers { shape, device: "cpu".into(), model });
        let engine = |name: &str, ranker| Engine { name: name.into(), digest: "aa".into(), ranker };
        let engines = vec![
            engine("shapes", towers(SHAPE, Box::new(compass))),
            engine("placed", towers(Placed::SHAPE, Box::new(placed))),
            engine("plain", None),
        ];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel = connect(listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let load = move |_: &Config| Ok(engines);
        let served = tokio::spawn(easel_ranker::serve_engines(listener, config, shutdown, load));
        let (client, status) = (Client::new(channel.clone()), StatusServiceClient::new(channel));
        let service = Self { client, status, go, runs, stop, served };
        service.until(|status| status.ready).await;
        service
    }

    /// Waits until the service says so of itself.
    pub async fn until(&self, condition: impl Fn(&GetStatusResponse) -> bool) {
        let mut client = self.status.clone();
        let asking = async {
            while !condition(client.get_status(GetStatusRequest {}).await.unwrap().get_ref()) {
                tokio::task::yield_now().await;
            }
        };
        within(asking).await;
    }

    pub async fn next_run(&mut self) -> Run {
        within(self.runs.recv()).await.unwrap()
    }

    /// The runs since the last that was asked for.
    pub fn runs(&mut self) -> Vec<Run> {
        std::iter::from_fn(|| self.runs.try_recv().ok()).collect()
    }

    pub async fn end(self) {
        drop((self.client, self.status));
        self.stop.send(()).unwrap();
        within(self.served).await.unwrap().unwrap();
    }
}

pub fn connect(address: SocketAddr) -> Channel {
    channel::endpoint(format!("http://{address}")).unwrap().connect_lazy()
}

/// A picture in the direction of `degrees`, at most 255.
pub fn picture(degrees: u8) -> Picture {
    Picture { width: 2, height: 2, rgb8: vec![degrees; 12].into() }
}

/// A caption in the direction of `degrees`.
pub fn text(degrees: u32) -> TextTokens {
    TextTokens { ids: vec![degrees] }
}

pub fn refer(name: &str, digest: &str) -> Option<PackageRef> {
    Some(PackageRef { name: name.into(), digest: digest.into() })
}

pub fn header(package: Option<PackageRef>, caption: Option<TextTokens>) -> RankRequest {
    RankRequest { message: Some(rank_request::Message::Header(rank_request::Header { package, caption })) }
}

pub fn candidate(id: u32, picture: Option<Picture>) -> RankRequest {
    RankRequest { message: Some(rank_request::Message::Candidate(rank_request::Candidate { id, picture })) }
}

/// A call whose messages are sent one by one.
pub struct Call {
    send: tokio::sync::mpsc::Sender<RankRequest>,
    pub scores: Streaming<RankResponse>,
}

impl Call {
    /// With a caption in the direction of 0°.
    pub async fn start(client: &Client) -> Self {
        Self::of(client, header(None, Some(text(0)))).await
    }

    /// With this header.
    pub async fn of(client: &Client, header: RankRequest) -> Self {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let call = client.clone().rank(ReceiverStream::new(messages)).await;
        let call = Self { send, scores: call.unwrap().into_inner() };
        call.send(header).await;
        call
    }

    pub async fn send(&self, message: RankRequest) {
        within(self.send.send(message)).await.unwrap();
    }

    pub async fn score(&mut self) -> (u32, f32) {
        let response = within(self.scores.message()).await.unwrap().unwrap();
        (response.candidate, response.clip_score)
    }

    /// No more pictures: there is nothing after the last score.
    pub async fn end(mut self) {
        drop(self.send);
        assert_eq!(within(self.scores.message()).await.unwrap(), None);
    }
}

/// The field that an INVALID_ARGUMENT names.
pub fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}
