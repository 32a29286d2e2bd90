//! The contract's side of the service.

use easel_package::Manifest;
use easel_proto::stage;
use easel_proto::v1::tokenizer_service_server::TokenizerService;
use easel_proto::v1::{self, tokenize_response};
use easel_server::packages::{Loaded, Packages};
use easel_server::telemetry::names::{label, metric};
use easel_server::{status, telemetry};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use crate::Error;
use crate::package::Vocabularies;
use crate::vocabulary::{Token, Vocabulary};

/// Bytes of a prompt.
const MAX_PROMPT: usize = 16 << 10;
/// A longer prompt is not tokenized on a thread that serves other calls.
const INLINE_PROMPT: usize = 1 << 10;
/// Ids to be made into text.
const MAX_IDS: usize = 16 << 10;

/// The service.
pub(crate) struct Tokenizer {
    packages: Packages<Vocabularies>,
    tokens: Counter<u64>,
}

impl Tokenizer {
    pub(crate) fn new(packages: Packages<Vocabularies>) -> Self {
        Self { packages, tokens: telemetry::counter(&metric::TOKENS) }
    }
}

#[tonic::async_trait]
impl TokenizerService for Tokenizer {
    async fn tokenize(&self, request: Request<v1::TokenizeRequest>) -> Result<Response<v1::TokenizeResponse>, Status> {
        let request = request.into_inner();
        let short = request.prompt.len() <= INLINE_PROMPT;
        let packages = self.packages.clone();
        let tokenize = move || tokenize(&packages, &request);
        let response = match short {
            true => tokenize()?,
            false => spawn_blocking(tokenize).await.map_err(|error| status::internal(&error))??,
        };
        let labels = [KeyValue::new(label::STAGE, stage::TOKENIZER), KeyValue::new(label::KIND, "text")];
        self.tokens.add(response.tokens.len() as u64, &labels);
        Ok(Response::new(response))
    }

    async fn detokenize(
        &self,
        request: Request<v1::DetokenizeRequest>,
    ) -> Result<Response<v1::DetokenizeResponse>, Status> {
        let request = request.into_inner();
        if request.ids.len() > MAX_IDS {
            return Err(status::invalid("ids", format!("expected at most {MAX_IDS}, found {}", request.ids.len())));
        }
        let package = self.packages.find(request.package.as_ref())?;
        let text = vocabulary(package, request.vocabulary)?.decode(&request.ids)?;
        Ok(Response::new(v1::DetokenizeResponse { text }))
    }

    async fn describe_packages(
        &self,
        _: Request<v1::DescribePackagesRequest>,
    ) -> Result<Response<v1::DescribePackagesResponse>, Status> {
        self.packages.find(None)?;
        let packages = self.packages.all().iter().map(describe).collect();
        Ok(Response::new(v1::DescribePackagesResponse { packages }))
    }
}

fn tokenize(packages: &Packages<Vocabularies>, request: &v1::TokenizeRequest) -> Result<v1::TokenizeResponse, Status> {
    let (prompt, bytes) = (&request.prompt, request.prompt.len());
    if prompt.is_empty() {
        return Err(status::invalid("prompt", "must not be empty"));
    }
    if bytes > MAX_PROMPT {
        return Err(status::invalid("prompt", format!("expected at most {MAX_PROMPT} bytes, found {bytes}")));
    }
    let package = packages.find(request.package.as_ref())?;
    let (tokens, truncated) = vocabulary(package, request.vocabulary)?.encode(prompt)?;
    if tokens.is_empty() {
        return Err(status::invalid("prompt", "has no text that the vocabulary knows of"));
    }
    // Spans lie within the prompt, whose size is bounded.
    let token = |token: Token| tokenize_response::Token {
        id: token.id,
        piece: token.piece,
        start: token.span.0 as u32,
        end: token.span.1 as u32,
        unknown: token.unknown,
    };
    let unknown = package.stage.words.as_ref().map(|words| words.unknown(prompt)).unwrap_or_default();
    let (unknown_words, nearest_words) = unknown.into_iter().map(|unknown| (unknown.word, unknown.nearest)).unzip();
    Ok(v1::TokenizeResponse {
        tokens: tokens.into_iter().map(token).collect(),
        truncated,
        package: Some(package.reference()),
        unknown_words,
        nearest_words,
    })
}

/// The vocabulary that a request asks for.
fn vocabulary(package: &Loaded<Vocabularies>, asked: i32) -> Result<&Vocabulary, Status> {
    match v1::Vocabulary::try_from(asked) {
        Ok(v1::Vocabulary::Unspecified | v1::Vocabulary::Sampler) => package.stage.sampler.as_ref().ok_or_else(|| {
            let name = &package.name;
            status::precondition("captions", name, format!("package {name} reads no captions"))
        }),
        Ok(v1::Vocabulary::Ranker) => package.stage.ranker.as_ref().ok_or_else(|| {
            let name = &package.name;
            status::precondition("ranker", name, format!("package {name} has no ranker, and so no vocabulary for it"))
        }),
        Err(_) => Err(status::invalid("vocabulary", format!("expected SAMPLER or RANKER, found {asked}"))),
    }
}

/// A package as clients see it.
fn describe(package: &Loaded<Vocabularies>) -> v1::Package {
    let Manifest { name, version, family, license, description, examples, grid, image, text, .. } =
        package.stage.manifest.clone();
    let m = &package.stage.manifest;
    v1::Package {
        name,
        version,
        digest: package.digest.clone(),
        family,
        license,
        description,
        grid: Some(v1::Grid { rows: grid.rows, columns: grid.columns }),
        image_width: image.width,
        image_height: image.height,
        codebook_size: m.codebook,
        text_length: text.room(),
        text_vocabulary_size: text.vocabulary,
        defaults: Some(v1::SamplingParameters {
            temperature: Some(m.sampling.temperature),
            top_k: Some(m.sampling.top_k),
            top_p: Some(m.sampling.top_p),
            guidance_scale: Some(m.sampling.guidance_scale),
        }),
        examples,
        guidance: m.guidance.is_some(),
        image_prompts: m.encoder.is_some(),
        ranking: m.ranker.is_some(),
        limits: None,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Prompt(reason) => status::invalid("prompt", reason),
            Error::Id { index, id } => {
                status::invalid(format!("ids[{index}]"), format!("{id} is not in the vocabulary"))
            }
            Error::Tokenizer(_)
            | Error::NoPackage
            | Error::Twice { .. }
            | Error::Package(_)
            | Error::Vocabulary { .. }
            | Error::Words { .. }
            | Error::Server(_)
            | Error::Io(_) => status::internal(&error),
        }
    }
}
