//! What all requests share, and the requests that are one call or two.

use std::cmp::Ordering;
use std::sync::Arc;

use easel_proto::v1::{
    ClassifyRequest, EmbedRequest, Embedding, GatewayServiceClassifyRequest, GatewayServiceClassifyResponse,
    GatewayServiceEmbedRequest, GatewayServiceEmbedResponse, GenerateRequest, Limits, Package, TextTokens,
    TokenizeRequest, TokenizeResponse, Vocabulary, gateway_service_classify_response::Entry,
};
use easel_server::status::invalid;
use easel_server::{Deadline, Load, StatusReporter};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::metrics::Metrics;
use crate::packages::{self, Packages};
use crate::picture::{Bounds, Edge};
use crate::plan::{self, Fit, Plan};
use crate::stages::{Stage, Stages};
use crate::{Config, fault};

/// Calls to one stage that one request makes at the same time.
const AT_ONCE: usize = 4;

/// The gateway.
pub(crate) struct Gateway {
    pub(crate) stages: Arc<Stages>,
    pub(crate) packages: Packages,
    pub(crate) edge: Edge,
    pub(crate) metrics: Metrics,
    pub(crate) places: Arc<Semaphore>,
    max_requests: u32,
    limits: Limits,
}

impl Gateway {
    /// The gateway of `config`, in front of `stages`.
    pub(crate) fn new(config: &Config, stages: Arc<Stages>) -> Self {
        let limits = config.limits();
        Self {
            stages,
            packages: Packages::new(limits),
            edge: Edge::new(Bounds { bytes: limits.max_image_bytes, pixels: limits.max_image_pixels }),
            metrics: Metrics::new(),
            places: Arc::new(Semaphore::new(config.max_requests as usize)),
            max_requests: config.max_requests,
            limits,
        }
    }

    /// The package `name` in a request that needs it.
    async fn package(&self, name: &str, deadline: Deadline) -> Result<Package, Status> {
        let package = self.packages.find(name, &self.stages, deadline).await?;
        package.ok_or_else(|| invalid("package", format!("no package \"{name}\"")))
    }

    /// The package `name` in a request that needs CLIP.
    async fn ranking_package(&self, name: &str, deadline: Deadline) -> Result<Package, Status> {
        let package = self.package(name, deadline).await?;
        match package.ranking {
            true => Ok(package),
            false => Err(invalid("package", format!("{} has no CLIP", package.name))),
        }
    }

    /// Checks a drawing that is asked for, and decodes its picture.
    pub(crate) async fn plan(&self, mut request: GenerateRequest, deadline: Deadline) -> Result<Plan, Status> {
        plan::check(&request, &self.limits)?;
        let package = self.package(&request.package, deadline).await?;
        let Fit { parameters, order, kept } = plan::fit(&request, &package)?;
        let image = match (kept, request.image.take()) {
            (Some(kept), Some(image)) => Some((self.edge.decode(image.image, "image.image").await?, kept)),
            _ => None,
        };
        Ok(plan::plan(request, package, parameters, order, image))
    }

    /// A picture against labels, most likely first.
    pub(crate) async fn classify(
        &self,
        request: GatewayServiceClassifyRequest,
        deadline: Deadline,
    ) -> Result<GatewayServiceClassifyResponse, Status> {
        self.check_texts("labels", &request.labels)?;
        if request.labels.is_empty() {
            return Err(invalid("labels", "is empty"));
        }
        let package = self.ranking_package(&request.package, deadline).await?;
        let decoded = self.edge.decode(request.image, "image").await?;
        let count = request.labels.len();
        let read = self.tokenize(&package, &request.labels, deadline).await?;
        let ask = ClassifyRequest {
            package: Some(packages::reference(&package)),
            picture: Some(decoded.picture.clone()),
            labels: read.iter().map(ids).collect(),
        };
        let answer = self.stages.classify(ask, deadline).await.inspect_err(|status| self.packages.doubt(status))?;
        if answer.probabilities.len() != count || answer.clip_scores.len() != count {
            return Err(fault::broken(Stage::Ranker, "gave another number of probabilities than there are labels"));
        }
        let values = answer.probabilities.into_iter().zip(answer.clip_scores);
        let entry = |((label, read), (probability, clip_score)): ((String, TokenizeResponse), _)| {
            let TokenizeResponse { unknown_words, nearest_words, .. } = read;
            Entry { label, probability, clip_score, unknown_words, nearest_words }
        };
        let mut entries: Vec<Entry> = request.labels.into_iter().zip(read).zip(values).map(entry).collect();
        let likely = |a: &Entry, b: &Entry| -> Ordering {
            b.probability.total_cmp(&a.probability).then(b.clip_score.total_cmp(&a.clip_score))
        };
        entries.sort_by(likely);
        Ok(GatewayServiceClassifyResponse { entries })
    }

    /// Texts and pictures as unit vectors. Each picture is a call of its own: the ranker batches.
    pub(crate) async fn embed(
        &self,
        request: GatewayServiceEmbedRequest,
        deadline: Deadline,
    ) -> Result<GatewayServiceEmbedResponse, Status> {
        self.check_texts("texts", &request.texts)?;
        self.check_count("images", request.images.len())?;
        if request.texts.is_empty() && request.images.is_empty() {
            return Err(invalid("texts", "expected texts or images"));
        }
        let package = self.ranking_package(&request.package, deadline).await?;
        let texts = match request.texts.is_empty() {
            true => Vec::new(),
            false => self.embed_texts(&package, &request.texts, deadline).await?,
        };
        let numbered = stream::iter(request.images.into_iter().enumerate());
        let embedded = numbered.map(|(index, image)| self.embed_image(&package, image, index, deadline));
        let images = embedded.buffered(AT_ONCE).try_collect().await?;
        Ok(GatewayServiceEmbedResponse { texts, images })
    }

    async fn embed_texts(
        &self,
        package: &Package,
        texts: &[String],
        deadline: Deadline,
    ) -> Result<Vec<Embedding>, Status> {
        let texts_read = self.tokenize(package, texts, deadline).await?.iter().map(ids).collect();
        let ask = EmbedRequest { package: Some(packages::reference(package)), texts: texts_read, pictures: Vec::new() };
        let answer = self.stages.embed(ask, deadline).await.inspect_err(|status| self.packages.doubt(status))?;
        match answer.texts.len() == texts.len() {
            true => Ok(answer.texts),
            false => Err(fault::broken(Stage::Ranker, "gave another number of vectors than there are texts")),
        }
    }

    async fn embed_image(
        &self,
        package: &Package,
        image: Vec<u8>,
        index: usize,
        deadline: Deadline,
    ) -> Result<Embedding, Status> {
        let decoded = self.edge.decode(image, &format!("images[{index}]")).await?;
        let pictures = vec![decoded.picture.clone()];
        let ask = EmbedRequest { package: Some(packages::reference(package)), texts: Vec::new(), pictures };
        let mut answer = self.stages.embed(ask, deadline).await.inspect_err(|status| self.packages.doubt(status))?;
        answer.pictures.pop().ok_or_else(|| fault::broken(Stage::Ranker, "gave no vector for a picture"))
    }

    /// `texts` in CLIP's vocabulary.
    async fn tokenize(
        &self,
        package: &Package,
        texts: &[String],
        deadline: Deadline,
    ) -> Result<Vec<TokenizeResponse>, Status> {
        let ask = |prompt: &String| {
            let (package, vocabulary) = (Some(packages::reference(package)), Vocabulary::Ranker.into());
            TokenizeRequest { package, prompt: prompt.clone(), vocabulary }
        };
        let asked: Vec<TokenizeRequest> = texts.iter().map(ask).collect();
        let tokenized = stream::iter(asked).map(|ask| async {
            self.stages.tokenize(ask, deadline).await.inspect_err(|status| self.packages.doubt(status))
        });
        tokenized.buffered(AT_ONCE).try_collect().await
    }

    fn check_texts(&self, field: &str, texts: &[String]) -> Result<(), Status> {
        self.check_count(field, texts.len())?;
        let mut numbered = texts.iter().enumerate();
        numbered.try_for_each(|(index, text)| plan::check_text(&format!("{field}[{index}]"), text, &self.limits))
    }

    fn check_count(&self, field: &str, count: usize) -> Result<(), Status> {
        match count <= self.limits.max_labels as usize {
            true => Ok(()),
            false => Err(invalid(field, format!("expected at most {}, found {count}", self.limits.max_labels))),
        }
    }
}

/// A text as the ranker takes it.
fn ids(read: &TokenizeResponse) -> TextTokens {
    TextTokens { ids: read.tokens.iter().map(|token| token.id).collect() }
}

impl StatusReporter for Gateway {
    fn load(&self) -> Load {
        let free = self.places.available_permits() as u32;
        Load {
            slots_in_use: self.max_requests.saturating_sub(free),
            slots_total: self.max_requests,
            packages: self.packages.names(),
            ..Load::default()
        }
    }
}
