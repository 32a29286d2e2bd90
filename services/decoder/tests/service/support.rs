//! A model whose pictures show their tokens and whose runs wait for a word, served for real.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use easel_decoder::model::{Engine, Model, Shape};
use easel_decoder::{Config, Error};
use easel_package::{Grid, Preprocess, Size};
use easel_proto::v1::decoder_service_client::DecoderServiceClient;
use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_proto::v1::{
    DecodeRequest, DecodeResponse, GetStatusRequest, GetStatusResponse, PackageRef, PreviewPolicy, TokenChunk,
    decode_request, decode_response,
};
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
pub type Client = DecoderServiceClient<Channel>;

/// 3 × 2 cells of 2 × 2 pixels.
pub const SHAPE: Shape = Shape {
    grid: Grid { rows: 2, columns: 3 },
    codebook: 100,
    image: Size { width: 6, height: 4 },
    encoder: Some(Preprocess { size: Size { width: 6, height: 4 } }),
};

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.unwrap()
}

/// Paints each cell with its token. Told of every run, and, if there is a gate, waiting there.
pub struct Painter {
    pub shape: Shape,
    /// The tokens of each run's rows.
    pub runs: UnboundedSender<Vec<Vec<u32>>>,
    pub gate: Option<mpsc::Receiver<()>>,
}

impl Model for Painter {
    fn decode(&mut self, tokens: &[u32]) -> Result<Vec<u8>, Error> {
        let Shape { grid, image, .. } = self.shape;
        // Nobody may be listening.
        let _ = self.runs.send(tokens.chunks(grid.cells()).map(<[u32]>::to_vec).collect());
        if let Some(gate) = &self.gate {
            gate.recv_timeout(LONG).unwrap();
        }
        let (width, height) = (image.width as usize, image.height as usize);
        let (across, down) = (width / grid.columns as usize, height / grid.rows as usize);
        let row = |tokens: &[u32]| tokens.iter().flat_map(|token| vec![*token as u8; across * 3]).collect::<Vec<_>>();
        let rows = tokens.chunks(grid.columns as usize);
        let pixels: Vec<u8> = rows.flat_map(|tokens| row(tokens).repeat(down)).collect();
        assert_eq!(pixels.len(), tokens.len() / grid.cells() * width * height * 3);
        Ok(pixels)
    }

    fn encode(&mut self, pixels: &[u8]) -> Result<Vec<u32>, Error> {
        let Shape { grid, image, .. } = self.shape;
        let (across, down) = (image.width / grid.columns, image.height / grid.rows);
        let picture = |pixels: &[u8]| {
            let corner = |cell: u32| (cell / grid.columns * down * image.width + cell % grid.columns * across) * 3;
            (0..grid.cells() as u32).map(|cell| u32::from(pixels[corner(cell) as usize])).collect::<Vec<_>>()
        };
        Ok(pixels.chunks((image.width * image.height * 3) as usize).flat_map(picture).collect())
    }
}

pub struct Service {
    pub client: Client,
    pub status: StatusServiceClient<Channel>,
    runs: UnboundedReceiver<Vec<Vec<u32>>>,
    pub go: mpsc::Sender<()>,
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Service {
    /// A service whose runs wait.
    pub async fn gated(config: Config) -> Self {
        Self::start(SHAPE, config, true).await
    }

    /// A service whose runs do not wait.
    pub async fn free() -> Self {
        Self::start(SHAPE, Config::new(vec![]), false).await
    }

    pub async fn start(shape: Shape, config: Config, gated: bool) -> Self {
        let (told, runs) = unbounded_channel();
        let (go, gate) = mpsc::channel();
        let painter = Painter { shape, runs: told, gate: gated.then_some(gate) };
        let engine = Engine {
            name: "shapes".into(),
            digest: "aa".into(),
            shape,
            device: "cpu".into(),
            model: Box::new(painter),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let load = move |_: &Config| Ok(vec![engine]);
        let served = tokio::spawn(easel_decoder::serve_engines(listener, config, shutdown, load));
        let status = StatusServiceClient::new(connect(address));
        let service = Self { client: Client::new(connect(address)), status, runs, go, address, stop, served };
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

    /// The rows of the next run.
    pub async fn next_run(&mut self) -> Vec<Vec<u32>> {
        within(self.runs.recv()).await.unwrap()
    }

    /// The rows of all runs since the last that was asked for.
    pub fn rows(&mut self) -> Vec<Vec<u32>> {
        std::iter::from_fn(|| self.runs.try_recv().ok()).flatten().collect()
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

pub fn header(candidates: &[u32], every_tokens: u32) -> DecodeRequest {
    let previews = Some(PreviewPolicy { every_tokens });
    let header = decode_request::Header { package: None, candidates: candidates.to_vec(), previews };
    DecodeRequest { message: Some(decode_request::Message::Header(header)) }
}

pub fn header_of(package: &str, digest: &str) -> DecodeRequest {
    let package = Some(PackageRef { name: package.into(), digest: digest.into() });
    let header = decode_request::Header { package, candidates: vec![0], previews: None };
    DecodeRequest { message: Some(decode_request::Message::Header(header)) }
}

pub fn chunk(candidate: u32, start: u32, tokens: &[u32]) -> DecodeRequest {
    let chunk = TokenChunk { candidate, start, tokens: tokens.to_vec() };
    DecodeRequest { message: Some(decode_request::Message::Chunk(chunk)) }
}

/// A call whose messages are sent one by one.
pub struct Call {
    pub send: tokio::sync::mpsc::Sender<DecodeRequest>,
    pub events: Streaming<DecodeResponse>,
}

impl Call {
    pub async fn start(client: &Client) -> Self {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let call = client.clone().decode(ReceiverStream::new(messages)).await;
        Self { send, events: call.unwrap().into_inner() }
    }

    pub async fn send(&self, message: DecodeRequest) {
        within(self.send.send(message)).await.unwrap();
    }

    pub async fn event(&mut self) -> Event {
        match within(self.events.message()).await.unwrap() {
            None => Event::End,
            Some(response) => match response.event.unwrap() {
                decode_response::Event::Preview(preview) => {
                    Event::Preview(preview.candidate, preview.tokens_done, cells(&preview.picture.unwrap().rgb8))
                }
                decode_response::Event::Finished(finished) => {
                    Event::Finished(finished.candidate, cells(&finished.picture.unwrap().rgb8))
                }
            },
        }
    }
}

/// An event with the tokens that its picture shows (128: grey).
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Preview(u32, u32, Vec<u8>),
    Finished(u32, Vec<u8>),
    End,
}

/// The cells of a picture of [`SHAPE`].
fn cells(pixels: &[u8]) -> Vec<u8> {
    assert_eq!(pixels.len(), 6 * 4 * 3);
    (0..6).map(|cell| pixels[(cell / 3 * 2 * 6 + cell % 3 * 2) * 3]).collect()
}

/// How a call with these messages ends.
pub async fn refusal(client: &Client, messages: Vec<DecodeRequest>) -> Status {
    let mut events = client.clone().decode(tokio_stream::iter(messages)).await.unwrap().into_inner();
    loop {
        match within(events.message()).await {
            Ok(event) => assert!(event.is_some(), "the call succeeded"),
            Err(status) => return status,
        }
    }
}

/// The field that an INVALID_ARGUMENT names.
pub fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}
