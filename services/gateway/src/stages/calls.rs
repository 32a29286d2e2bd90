//! The calls to the stages.

use easel_proto::v1::decoder_service_client::DecoderServiceClient;
use easel_proto::v1::ranker_service_client::RankerServiceClient;
use easel_proto::v1::sampler_service_client::SamplerServiceClient;
use easel_proto::v1::tokenizer_service_client::TokenizerServiceClient;
use easel_proto::v1::{
    ClassifyRequest, ClassifyResponse, DecodeRequest, DecodeResponse, DescribePackagesRequest, EmbedRequest,
    EmbedResponse, EncodeRequest, EncodeResponse, Package, RankRequest, RankResponse, SampleRequest, SampleResponse,
    TokenizeRequest, TokenizeResponse, decode_request, rank_request,
};
use easel_server::Deadline;
use easel_server::call::outgoing;
use easel_server::telemetry::names;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use tracing::{Instrument, Span};

use super::{Answers, Stage, Stages};

/// Pictures on their way to the ranker.
const PICTURES: usize = 4;

/// A client of `$service` on `$channel`, with the message limits of `$stages`.
macro_rules! client {
    ($service:ident, $channel:expr, $stages:expr) => {
        $service::new($channel)
            .max_decoding_message_size($stages.message_bytes)
            .max_encoding_message_size($stages.message_bytes)
    };
}

/// The span of a call to `stage`.
fn span(stage: Stage, name: &'static str) -> Span {
    tracing::info_span!(names::span::STAGE, otel.name = name, otel.kind = "client", easel.stage = stage.name())
}

impl Stages {
    /// The packages that the suite holds, the default first.
    pub(crate) async fn describe_packages(&self, deadline: Deadline) -> Result<Vec<Package>, Status> {
        let call = self.tokenizer.call(deadline, move |channel| async move {
            let request = outgoing(DescribePackagesRequest {}, Some(deadline));
            client!(TokenizerServiceClient, channel, self).describe_packages(request).await
        });
        let (response, _) = call.instrument(span(Stage::Tokenizer, "describe_packages")).await?;
        Ok(response.into_inner().packages)
    }

    /// A text as tokens.
    pub(crate) async fn tokenize(
        &self,
        request: TokenizeRequest,
        deadline: Deadline,
    ) -> Result<TokenizeResponse, Status> {
        let request = &request;
        let call = self.tokenizer.call(deadline, move |channel| async move {
            let request = outgoing(request.clone(), Some(deadline));
            client!(TokenizerServiceClient, channel, self).tokenize(request).await
        });
        let (response, _) = call.instrument(span(Stage::Tokenizer, "tokenize")).await?;
        Ok(response.into_inner())
    }

    /// A picture as image tokens.
    pub(crate) async fn encode(&self, request: EncodeRequest, deadline: Deadline) -> Result<EncodeResponse, Status> {
        let request = &request;
        let call = self.decoder.call(deadline, move |channel| async move {
            let request = outgoing(request.clone(), Some(deadline));
            client!(DecoderServiceClient, channel, self).encode(request).await
        });
        let (response, _) = call.instrument(span(Stage::Decoder, "encode")).await?;
        Ok(response.into_inner())
    }

    /// Draws; returns with the sampler's first answer, so that until then another replica can take over.
    pub(crate) async fn sample(
        &self,
        request: SampleRequest,
        deadline: Deadline,
    ) -> Result<Answers<SampleResponse>, Status> {
        let span = span(Stage::Sampler, "sample");
        let request = &request;
        let call = self.sampler.call(deadline, move |channel| async move {
            let request = outgoing(request.clone(), Some(deadline));
            let response = client!(SamplerServiceClient, channel, self).sample(request).await?;
            let mut stream = response.into_inner();
            let first = stream.message().await?;
            Ok((stream, first))
        });
        let (stream, lease) = call.instrument(span.clone()).await?;
        Ok(Answers::new(Stage::Sampler, stream, lease, deadline, span))
    }

    /// Opens a decoding: where the chunks go, of which `chunks` may wait, and where the pictures come from. Returns with
    /// the response's head; until then another replica can take over.
    pub(crate) async fn decode(
        &self,
        header: decode_request::Header,
        chunks: usize,
        deadline: Deadline,
    ) -> Result<(mpsc::Sender<DecodeRequest>, Answers<DecodeResponse>), Status> {
        let span = span(Stage::Decoder, "decode");
        let header = DecodeRequest { message: Some(decode_request::Message::Header(header)) };
        let header = &header;
        let call = self.decoder.call(deadline, move |channel| async move {
            let (sender, requests) = open(header.clone(), chunks, deadline);
            let response = client!(DecoderServiceClient, channel, self).decode(requests).await?;
            Ok((sender, response.into_inner()))
        });
        let ((sender, stream), lease) = call.instrument(span.clone()).await?;
        Ok((sender, Answers::new(Stage::Decoder, (stream, None), lease, deadline, span)))
    }

    /// Opens a ranking: where the pictures go, and where the scores come from. Returns with
    /// the response's head.
    pub(crate) async fn rank(
        &self,
        header: rank_request::Header,
        deadline: Deadline,
    ) -> Result<(mpsc::Sender<RankRequest>, Answers<RankResponse>), Status> {
        let span = span(Stage::Ranker, "rank");
        let header = RankRequest { message: Some(rank_request::Message::Header(header)) };
        let header = &header;
        let call = self.ranker.call(deadline, move |channel| async move {
            let (sender, requests) = open(header.clone(), PICTURES, deadline);
            let response = client!(RankerServiceClient, channel, self).rank(requests).await?;
            Ok((sender, response.into_inner()))
        });
        let ((sender, stream), lease) = call.instrument(span.clone()).await?;
        Ok((sender, Answers::new(Stage::Ranker, (stream, None), lease, deadline, span)))
    }

    /// Texts and pictures as unit vectors.
    pub(crate) async fn embed(&self, request: EmbedRequest, deadline: Deadline) -> Result<EmbedResponse, Status> {
        let request = &request;
        let call = self.ranker.call(deadline, move |channel| async move {
            let request = outgoing(request.clone(), Some(deadline));
            client!(RankerServiceClient, channel, self).embed(request).await
        });
        let (response, _) = call.instrument(span(Stage::Ranker, "embed")).await?;
        Ok(response.into_inner())
    }

    /// A picture against labels.
    pub(crate) async fn classify(
        &self,
        request: ClassifyRequest,
        deadline: Deadline,
    ) -> Result<ClassifyResponse, Status> {
        let request = &request;
        let call = self.ranker.call(deadline, move |channel| async move {
            let request = outgoing(request.clone(), Some(deadline));
            client!(RankerServiceClient, channel, self).classify(request).await
        });
        let (response, _) = call.instrument(span(Stage::Ranker, "classify")).await?;
        Ok(response.into_inner())
    }
}

/// A stream of requests that begins with `header`; what is sent follows, of which `window` may wait.
fn open<T: Send + 'static>(
    header: T,
    window: usize,
    deadline: Deadline,
) -> (mpsc::Sender<T>, Request<impl futures::Stream<Item = T> + Send + 'static>) {
    let (sender, receiver) = mpsc::channel(window);
    let requests = stream::iter([header]).chain(ReceiverStream::new(receiver));
    (sender, outgoing(requests, Some(deadline)))
}
