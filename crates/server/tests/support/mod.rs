//! A sampler that does as it is told, served for real.
#![allow(dead_code)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use easel_proto::v1::sample_response::Event;
use easel_proto::v1::sampler_service_client::SamplerServiceClient;
use easel_proto::v1::sampler_service_server::{self, SamplerService, SamplerServiceServer};
use easel_proto::v1::{SampleRequest, SampleResponse, TokenChunk};
use easel_server::cancel::{CancellationToken, guarded_stream};
use easel_server::serve::{self, Parts};
use easel_server::{Config, Error, Load, Readiness, StatusReporter, channel};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What a call to the sampler does.
#[derive(Clone)]
pub enum Script {
    /// Answers two events.
    Brief,
    /// Answers one event, then waits for ever.
    Hang,
    /// Never answers.
    HangBeforeHead,
    /// Answers one event, then another when the token is cancelled.
    Gate(CancellationToken),
    /// Answers without end, as fast as the client reads.
    Flood,
    /// Panics.
    Panic,
    /// Answers one event, then panics.
    PanicLater,
}

pub struct Sampler {
    pub script: Script,
    /// Cancelled when a call reaches the handler.
    pub entered: CancellationToken,
    /// Cancelled when a call is dropped.
    pub dropped: CancellationToken,
}

#[tonic::async_trait]
impl SamplerService for Sampler {
    type SampleStream = BoxStream<'static, Result<SampleResponse, Status>>;

    async fn sample(&self, _: Request<SampleRequest>) -> Result<Response<Self::SampleStream>, Status> {
        self.entered.cancel();
        let event = || Ok(SampleResponse { event: None });
        let first = stream::iter([event()]);
        let events = match self.script.clone() {
            Script::Brief => first.chain(stream::iter([event()])).boxed(),
            Script::Hang => first.chain(stream::pending()).boxed(),
            Script::Gate(gate) => {
                let second = async move { gate.cancelled().await }.map(move |()| event());
                first.chain(stream::once(second)).boxed()
            }
            Script::HangBeforeHead => {
                let _guard = self.dropped.clone().drop_guard();
                std::future::pending().await
            }
            Script::Flood => stream::repeat_with(flood).boxed(),
            Script::Panic => panic!("as told"),
            Script::PanicLater => {
                // The first event must be on its way before.
                let second = tokio::task::yield_now().map(|()| panic!("as told"));
                first.chain(stream::once(second)).boxed()
            }
        };
        Ok(Response::new(guarded_stream(events, self.dropped.clone()).boxed()))
    }
}

fn flood() -> Result<SampleResponse, Status> {
    let chunk = TokenChunk { tokens: vec![u32::MAX; 10_000], ..TokenChunk::default() };
    Ok(SampleResponse { event: Some(Event::Chunk(chunk)) })
}

pub struct Busy;

impl StatusReporter for Busy {
    fn load(&self) -> Load {
        Load {
            queue_depth: 3,
            queue_capacity: 8,
            slots_in_use: 5,
            slots_total: 6,
            packages: vec![("shapes".to_owned(), "sha256:00".to_owned())],
            device: "cpu".to_owned(),
            detail: "two threads".to_owned(),
        }
    }
}

/// A server on a port of its own.
pub struct Running {
    pub address: SocketAddr,
    pub readiness: Readiness,
    pub entered: CancellationToken,
    pub dropped: CancellationToken,
    pub stop: CancellationToken,
    pub served: JoinHandle<Result<(), Error>>,
}

pub fn routes<S: SamplerService>(sampler: S) -> Routes {
    Routes::new(SamplerServiceServer::new(sampler))
}

pub async fn start(script: Script, config: Config) -> Running {
    let (entered, dropped) = (CancellationToken::new(), CancellationToken::new());
    let sampler = Sampler { script, entered: entered.clone(), dropped: dropped.clone() };
    Running { entered, dropped, ..start_with(sampler, config).await }
}

pub async fn start_with<S: SamplerService>(sampler: S, config: Config) -> Running {
    start_routes(routes(sampler), &[sampler_service_server::SERVICE_NAME], config).await
}

pub async fn start_routes(routes: Routes, services: &'static [&'static str], config: Config) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (readiness, stop) = (Readiness::new(), CancellationToken::new());
    let parts = Parts {
        name: "sampler",
        listener,
        routes,
        services,
        readiness: readiness.clone(),
        status: Arc::new(Busy),
        descriptors: easel_proto::FILE_DESCRIPTOR_SET,
    };
    let stopped = stop.clone().cancelled_owned();
    let served = tokio::spawn(async move { serve::serve(parts, &config, stopped).await });
    let (entered, dropped) = (CancellationToken::new(), CancellationToken::new());
    Running { address, readiness, entered, dropped, stop, served }
}

impl Running {
    pub fn channel(&self) -> Channel {
        let endpoint = channel::endpoint(format!("http://{}", self.address));
        endpoint.expect("an address is a URI").connect_lazy()
    }

    pub fn client(&self) -> SamplerServiceClient<Channel> {
        SamplerServiceClient::new(self.channel())
    }

    /// Stops the server and waits for its end.
    pub async fn end(self) {
        self.stop.cancel();
        within(self.served).await.expect("no panic").expect("a clean end");
    }
}

/// Fails where `future` hangs.
pub async fn within<F: Future>(future: F) -> F::Output {
    let time = Duration::from_secs(20);
    tokio::time::timeout(time, future).await.expect("it does not hang")
}

/// What a call without a purpose asks for.
pub fn request() -> Request<SampleRequest> {
    Request::new(SampleRequest::default())
}
