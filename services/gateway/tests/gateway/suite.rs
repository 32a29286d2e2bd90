//! A gateway and its stages. Each stage has a runtime of its own, so that it can die as a process does: all at once.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Parser;
use easel_gateway::Config;
use easel_proto::stage;
use easel_proto::v1::decoder_service_server::{self, DecoderServiceServer};
use easel_proto::v1::gateway_service_client::GatewayServiceClient;
use easel_proto::v1::generate_response::Event;
use easel_proto::v1::ranker_service_server::{self, RankerServiceServer};
use easel_proto::v1::sampler_service_server::{self, SamplerServiceServer};
use easel_proto::v1::tokenizer_service_server::{self, TokenizerServiceServer};
use easel_proto::v1::{GenerateRequest, GenerateResponse, Package};
use easel_server::serve::{Parts, serve};
use easel_server::telemetry::{self, Telemetry};
use easel_server::{Load, Readiness, StatusReporter};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use crate::script::Script;
use crate::stages::Fake;

pub(crate) const STAGES: [&str; 4] = [stage::TOKENIZER, stage::SAMPLER, stage::DECODER, stage::RANKER];

struct Idle;

impl StatusReporter for Idle {
    fn load(&self) -> Load {
        Load::default()
    }
}

/// One stage that serves.
pub(crate) struct Running {
    pub(crate) at: SocketAddr,
    runtime: Option<Runtime>,
}

impl Running {
    /// Serves `stage` at `at`; port 0 takes a free one.
    pub(crate) fn start(stage: &'static str, at: SocketAddr, name: &str, script: &Script) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = listen(at);
        let at = listener.local_addr().unwrap();
        let fake = Fake { script: script.clone(), name: name.to_owned() };
        let large = 64 << 20;
        let routes = match stage {
            stage::TOKENIZER => Routes::new(TokenizerServiceServer::new(fake)),
            stage::SAMPLER => Routes::new(SamplerServiceServer::new(fake)),
            stage::DECODER => Routes::new(DecoderServiceServer::new(fake).max_decoding_message_size(large)),
            _ => Routes::new(RankerServiceServer::new(fake).max_decoding_message_size(large)),
        };
        runtime.spawn(async move {
            let readiness = Readiness::new();
            readiness.ready();
            let parts = Parts {
                name: stage,
                listener: TcpListener::from_std(listener).unwrap(),
                routes,
                services: services(stage),
                readiness,
                status: Arc::new(Idle),
                descriptors: easel_proto::FILE_DESCRIPTOR_SET,
            };
            serve(parts, &easel_server::Config::default(), std::future::pending()).await.unwrap();
        });
        Self { at, runtime: Some(runtime) }
    }

    /// Dies at once, as of SIGKILL: its sockets are closed, nothing is said.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10))).join().unwrap();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The full name of a stage's service.
fn services(stage: &str) -> &'static [&'static str] {
    match stage {
        stage::TOKENIZER => &[tokenizer_service_server::SERVICE_NAME],
        stage::SAMPLER => &[sampler_service_server::SERVICE_NAME],
        stage::DECODER => &[decoder_service_server::SERVICE_NAME],
        _ => &[ranker_service_server::SERVICE_NAME],
    }
}

fn listen(at: SocketAddr) -> StdListener {
    let listener = StdListener::bind(at).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A free port of a loopback address that nobody else has: one that dies finds its port free when it comes back.
pub(crate) fn anywhere() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let process = (std::process::id() % 254) as u8 + 1;
    SocketAddr::from(([127, process, high, low], 0))
}

/// An address where nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    SocketAddr::new(anywhere().ip(), 1)
}

/// A gateway and four stages.
pub(crate) struct Suite {
    pub(crate) script: Script,
    pub(crate) stages: [Running; 4],
    pub(crate) gateway: SocketAddr,
    server: tokio::task::JoinHandle<()>,
}

impl Suite {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more options for the gateway.
    pub(crate) async fn with(options: &[&str]) -> Self {
        // Once in the process; traces go from call to call with it.
        static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
        TELEMETRY.get_or_init(|| {
            let quiet = easel_server::Config { log: "off".to_owned(), ..easel_server::Config::default() };
            telemetry::init("gateway", &quiet).unwrap()
        });
        let script = Script::new();
        let stages = STAGES.map(|stage| Running::start(stage, anywhere(), "first", &script));
        let listener = TcpListener::bind(anywhere()).await.unwrap();
        let gateway = listener.local_addr().unwrap();
        let mut arguments = vec!["easel-gateway".to_owned()];
        for (stage, running) in STAGES.iter().zip(&stages) {
            if !options.contains(&&*format!("--{stage}")) {
                arguments.extend([format!("--{stage}"), format!("http://{}", running.at)]);
            }
        }
        arguments.extend(options.iter().map(|&option| option.to_owned()));
        let config = Config::parse_from(arguments);
        let server = tokio::spawn(async move {
            easel_gateway::serve(listener, config, std::future::pending()).await.unwrap();
        });
        Self { script, stages, gateway, server }
    }

    pub(crate) fn stage(&mut self, name: &str) -> &mut Running {
        let index = STAGES.iter().position(|stage| *stage == name).unwrap();
        &mut self.stages[index]
    }

    /// Starts a stage again where it was.
    pub(crate) fn revive(&mut self, name: &'static str) {
        let script = self.script.clone();
        let stage = self.stage(name);
        *stage = Running::start(name, stage.at, "second", &script);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Package)) {
        change(&mut self.script.package.lock().unwrap());
    }

    pub(crate) async fn client(&self) -> GatewayServiceClient<Channel> {
        let uri = format!("http://{}", self.gateway);
        let channel = Endpoint::new(uri).unwrap().connect().await.unwrap();
        let client = GatewayServiceClient::new(channel);
        client.max_decoding_message_size(64 << 20).max_encoding_message_size(256 << 20)
    }

    pub(crate) async fn generate(&self, request: GenerateRequest) -> Result<Vec<Event>, Status> {
        let stream = self.client().await.generate(request).await?.into_inner();
        collect(stream).await
    }

    /// How a request fails, at the head or later.
    pub(crate) async fn failure(&self, request: GenerateRequest) -> Status {
        self.generate(request).await.expect_err("the request should fail")
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(crate) async fn collect(mut stream: Streaming<GenerateResponse>) -> Result<Vec<Event>, Status> {
    let mut events = Vec::new();
    while let Some(response) = stream.message().await? {
        events.push(response.event.unwrap());
    }
    Ok(events)
}

/// Two pictures of a caption of four words.
pub(crate) fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "an armchair of avocado".to_owned(),
        candidates: 2,
        seed: Some(1),
        ..GenerateRequest::default()
    }
}

/// The field that an INVALID_ARGUMENT names.
pub(crate) fn field(status: &Status) -> String {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    details.bad_request().unwrap_or_else(|| panic!("{status:?}")).field_violations[0].field.clone()
}
