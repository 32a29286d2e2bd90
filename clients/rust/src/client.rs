use std::future::Future;
use std::time::Duration;

use easel_proto::v1::gateway_service_client::GatewayServiceClient;
use easel_proto::v1::{
    GatewayServiceClassifyRequest, GatewayServiceEmbedRequest, GetPackageRequest, ListPackagesRequest,
    ListStagesRequest, Package, Stage,
};
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::{Error, Generate, Generation, trace};

/// Largest message that is sent or accepted: 64 MiB.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// grpc-timeout and the clock both overflow far beyond; nobody waits longer.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A connection to a gateway. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    gateway: GatewayServiceClient<Channel>,
    package: String,
    timeout: Option<Duration>,
}

/// A label and how well it fits a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The label as given.
    pub label: String,
    /// Among the labels given; they sum to 1.
    pub probability: f32,
    /// The cosine of picture and label.
    pub clip_score: f32,
    /// Words of the label that the model was not taught, as far as the package can tell.
    pub unknown_words: Vec<String>,
    /// One for each of `unknown_words`: the word that the model was taught whose spelling is nearest; empty when none is near.
    pub nearest_words: Vec<String>,
}

/// Points on the unit sphere of CLIP's joint space: the cosine of two is their dot product.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// One for each text.
    pub texts: Vec<Vec<f32>>,
    /// One for each picture.
    pub images: Vec<Vec<f32>>,
}

impl Client {
    /// Connects to the gateway at `url` ("http://127.0.0.1:50050").
    ///
    /// # Errors
    /// [`Error::Url`] when that is none, [`Error::Connect`] when nobody answers there.
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        let url = url.into();
        let channel = endpoint(&url)?.connect().await;
        channel.map(Self::new).map_err(|source| Error::Connect { url, source })
    }

    /// A client that connects with its first call, and again whenever the connection is lost. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Url`] when `url` is none.
    pub fn lazy(url: impl AsRef<str>) -> Result<Self, Error> {
        Ok(Self::new(endpoint(url.as_ref())?.connect_lazy()))
    }

    /// A client over a channel of the caller's making: other transports, TLS, balancing.
    pub fn new(channel: Channel) -> Self {
        let gateway = GatewayServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        Self { gateway, package: String::new(), timeout: None }
    }

    /// Calls that name no package use this one instead of the gateway's default.
    #[must_use]
    pub fn with_package(mut self, name: impl Into<String>) -> Self {
        self.package = name.into();
        self
    }

    /// Every call must be finished within this time, else DEADLINE_EXCEEDED.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Draws: takes a [`Generate`] or simply a caption.
    ///
    /// # Errors
    /// As the gateway refuses: INVALID_ARGUMENT with the field, RESOURCE_EXHAUSTED with the time to wait, UNAVAILABLE.
    pub async fn generate(&self, request: impl Into<Generate>) -> Result<Generation, Error> {
        let Generate { mut message, timeout } = request.into();
        if message.package.is_empty() {
            message.package.clone_from(&self.package);
        }
        let call = Call::new(message, timeout.or(self.timeout));
        let deadline = call.deadline;
        let responses = call.run(async |request| self.gateway.clone().generate(request).await).await?;
        Ok(Generation::new(responses, deadline))
    }

    /// The packages that can be drawn with, the default first.
    ///
    /// # Errors
    /// As the gateway refuses.
    pub async fn packages(&self) -> Result<Vec<Package>, Error> {
        let call = Call::new(ListPackagesRequest {}, self.timeout);
        let answer = call.run(async |request| self.gateway.clone().list_packages(request).await).await?;
        Ok(answer.packages)
    }

    /// One package; the default for an empty name.
    ///
    /// # Errors
    /// As the gateway refuses, for example an unknown name.
    pub async fn package(&self, name: impl Into<String>) -> Result<Package, Error> {
        let call = Call::new(GetPackageRequest { name: name.into() }, self.timeout);
        let answer = call.run(async |request| self.gateway.clone().get_package(request).await).await?;
        answer.package.ok_or(Error::Incomplete { what: "the package" })
    }

    /// Which of the labels fits the picture (PNG, JPEG or WebP), most likely first.
    ///
    /// # Errors
    /// As the gateway refuses, for example a package without CLIP.
    pub async fn classify<L: Into<String>>(
        &self,
        image: impl Into<Vec<u8>>,
        labels: impl IntoIterator<Item = L>,
    ) -> Result<Vec<Label>, Error> {
        let labels = labels.into_iter().map(Into::into).collect();
        let message = GatewayServiceClassifyRequest { package: self.package.clone(), image: image.into(), labels };
        let call = Call::new(message, self.timeout);
        let answer = call.run(async |request| self.gateway.clone().classify(request).await).await?;
        let label = |entry: easel_proto::v1::gateway_service_classify_response::Entry| Label {
            label: entry.label,
            probability: entry.probability,
            clip_score: entry.clip_score,
            unknown_words: entry.unknown_words,
            nearest_words: entry.nearest_words,
        };
        Ok(answer.entries.into_iter().map(label).collect())
    }

    /// Texts and pictures (PNG, JPEG or WebP) as unit vectors.
    ///
    /// # Errors
    /// As the gateway refuses, for example a package without CLIP.
    pub async fn embed<T: Into<String>, I: Into<Vec<u8>>>(
        &self,
        texts: impl IntoIterator<Item = T>,
        images: impl IntoIterator<Item = I>,
    ) -> Result<Embeddings, Error> {
        let message = GatewayServiceEmbedRequest {
            package: self.package.clone(),
            texts: texts.into_iter().map(Into::into).collect(),
            images: images.into_iter().map(Into::into).collect(),
        };
        let call = Call::new(message, self.timeout);
        let answer = call.run(async |request| self.gateway.clone().embed(request).await).await?;
        let values = |embeddings: Vec<easel_proto::v1::Embedding>| embeddings.into_iter().map(|e| e.values).collect();
        Ok(Embeddings { texts: values(answer.texts), images: values(answer.images) })
    }

    /// Every stage that the gateway knows: whether it answers, its health and its load.
    ///
    /// # Errors
    /// As the gateway refuses; a stage that is missing is no error.
    pub async fn stages(&self) -> Result<Vec<Stage>, Error> {
        let call = Call::new(ListStagesRequest {}, self.timeout);
        let answer = call.run(async |request| self.gateway.clone().list_stages(request).await).await?;
        Ok(answer.stages)
    }
}

/// One call: its request with trace context, and its deadline.
struct Call<T> {
    request: Request<T>,
    deadline: Option<Instant>,
}

impl<T> Call<T> {
    fn new(message: T, timeout: Option<Duration>) -> Self {
        let mut request = Request::new(message);
        trace::inject(request.metadata_mut());
        let timeout = timeout.map(|timeout| timeout.min(MAX_TIMEOUT));
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        Self { request, deadline: timeout.map(|timeout| Instant::now() + timeout) }
    }

    async fn run<R, F>(self, send: impl FnOnce(Request<T>) -> F) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let answer = send(self.request);
        let answer = match self.deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answer).await.map_err(|_| Error::deadline())?,
            None => answer.await,
        };
        // tonic's own watch over grpc-timeout, a tick before ours, says CANCELLED.
        let passed = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        answer.map(Response::into_inner).map_err(|status| match status.code() {
            Code::Cancelled if passed => Error::deadline(),
            _ => status.into(),
        })
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let bad = || Error::Url { url: url.to_owned() };
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| bad())?;
    if endpoint.uri().scheme_str() != Some("http") {
        return Err(bad());
    }
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}
