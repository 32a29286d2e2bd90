//! The contract's side of the service.

use std::pin::Pin;

use easel_proto::v1::ranker_service_server::RankerService;
use easel_proto::v1::{
    ClassifyRequest, ClassifyResponse, EmbedRequest, EmbedResponse, Embedding, Picture, RankRequest, RankResponse,
    TextTokens,
};
use easel_server::packages::{Loaded, Packages};
use easel_server::telemetry::names::metric;
use easel_server::{Deadline, picture, status, telemetry};
use opentelemetry::metrics::Counter;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use crate::embed::{Call, Embedder};
use crate::model::Shape;
use crate::score::{cosine_of_content, pad, softmax};
use crate::{Clip, Error, Stage, stream};

/// Labels, texts or pictures of a call.
const MAX_ITEMS: usize = 1024;

/// The service.
pub(crate) struct Ranker {
    packages: Packages<Stage>,
    pictures: Counter<u64>,
}

impl Ranker {
    pub(crate) fn new(packages: Packages<Stage>) -> Self {
        Self { packages, pictures: telemetry::counter(&metric::PICTURES) }
    }

    fn call<T>(&self, request: &Request<T>) -> Call {
        Call { deadline: Deadline::of(request), span: Span::current(), pictures: self.pictures.clone() }
    }
}

#[tonic::async_trait]
impl RankerService for Ranker {
    type RankStream = Pin<Box<dyn Stream<Item = Result<RankResponse, Status>> + Send>>;

    async fn rank(&self, request: Request<Streaming<RankRequest>>) -> Result<Response<Self::RankStream>, Status> {
        let call = self.call(&request);
        Ok(Response::new(Box::pin(stream::rank(self.packages.clone(), call, request.into_inner()))))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let call = self.call(&request);
        let EmbedRequest { package, texts, pictures } = request.into_inner();
        let clip = clip(self.packages.find(package.as_ref())?)?;
        if texts.is_empty() && pictures.is_empty() {
            return Err(status::invalid("texts", "must be given, or pictures"));
        }
        let texts = check_texts("texts", texts, clip.shape)?;
        let pictures = check_pictures(pictures)?;
        let embedder = Embedder::new(clip, call)?;
        let (texts, pictures) = tokio::try_join!(embedder.texts(texts), embedder.pictures(pictures))?;
        let embeddings = |vectors: Vec<_>| vectors.into_iter().map(|values| Embedding { values }).collect();
        Ok(Response::new(EmbedResponse { texts: embeddings(texts), pictures: embeddings(pictures) }))
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        let call = self.call(&request);
        let ClassifyRequest { package, picture, labels } = request.into_inner();
        let clip = clip(self.packages.find(package.as_ref())?)?;
        let picture = picture::check("picture", picture)?;
        if labels.is_empty() {
            return Err(status::invalid("labels", "must be given"));
        }
        let labels = check_texts("labels", labels, clip.shape)?;
        let embedder = Embedder::new(clip, call)?;
        let (picture, labels) = tokio::try_join!(embedder.picture(picture), embedder.texts(labels))?;
        let clip_scores: Vec<f32> = labels.iter().map(|label| cosine_of_content(&picture, label, clip.shape)).collect();
        let probabilities = softmax(&clip_scores, clip.shape.logit_scale);
        Ok(Response::new(ClassifyResponse { probabilities, clip_scores }))
    }
}

/// The model of a package.
pub(crate) fn clip(package: &Loaded<Stage>) -> Result<&Clip, Error> {
    package.stage.as_ref().ok_or_else(|| Error::NoRanker { package: package.name.clone() })
}

fn check_count(field: &str, count: usize) -> Result<(), Error> {
    match count > MAX_ITEMS {
        true => Err(Error::invalid(field, format!("expected at most {MAX_ITEMS}, found {count}"))),
        false => Ok(()),
    }
}

/// Padded, or the first that is wrong named.
fn check_texts(field: &str, texts: Vec<TextTokens>, shape: Shape) -> Result<Vec<Vec<u32>>, Error> {
    check_count(field, texts.len())?;
    texts.iter().enumerate().map(|(i, text)| pad(&format!("{field}[{i}]"), &text.ids, shape)).collect()
}

fn check_pictures(pictures: Vec<Picture>) -> Result<Vec<Picture>, Status> {
    check_count("pictures", pictures.len())?;
    let check = |(i, picture)| picture::check(&format!("pictures[{i}]"), Some(picture));
    pictures.into_iter().enumerate().map(check).collect()
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid { field, reason } => status::invalid(field, reason),
            Error::NoRanker { ref package } => status::precondition("ranker", package, error.to_string()),
            Error::Batch(error) => error.into(),
            Error::NoPackage
            | Error::Twice { .. }
            | Error::Package(_)
            | Error::Onnx(_)
            | Error::Server(_)
            | Error::Io(_) => status::internal(&error),
        }
    }
}
