//! The four stages, without models: quick, exact, and obedient to their script.

use std::collections::BTreeMap;

use easel_proto::v1::decoder_service_server::DecoderService;
use easel_proto::v1::ranker_service_server::RankerService;
use easel_proto::v1::sampler_service_server::SamplerService;
use easel_proto::v1::tokenizer_service_server::TokenizerService;
use easel_proto::v1::{
    ClassifyRequest, ClassifyResponse, DecodeRequest, DecodeResponse, DescribePackagesRequest,
    DescribePackagesResponse, DetokenizeRequest, DetokenizeResponse, EmbedRequest, EmbedResponse, Embedding,
    EncodeRequest, EncodeResponse, Grid, Picture, RankRequest, RankResponse, SampleRequest, SampleResponse, TokenChunk,
    TokenizeRequest, TokenizeResponse, decode_request, decode_response, rank_request, sample_response,
    tokenize_response::Token,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::script::{Open, Script};

pub(crate) const CELLS: u32 = 16;
pub(crate) const ROW: u32 = 4;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// Any of the stages.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) script: Script,
    /// Which of several this is.
    pub(crate) name: String,
}

impl Fake {
    fn begin<T>(&self, method: &'static str, request: &Request<T>) -> Result<(), Status> {
        self.script.called(method, request);
        self.script.note(|seen| seen.served.push(format!("{method}@{}", self.name)));
        self.script.outcome(method)
    }
}

/// The token at a place, by seed alone.
pub(crate) fn token(seed: u64, position: u32) -> u32 {
    (seed.wrapping_mul(5) as u32).wrapping_add(position) % 32
}

/// A picture's pixels, by its first token alone.
pub(crate) fn pixels(side: u32, first: u32, known: usize) -> Picture {
    let mut rgb8 = vec![128; (side * side * 3) as usize];
    let share = rgb8.len() * known / CELLS as usize;
    rgb8[..share].fill((first * 8) as u8);
    Picture { width: side, height: side, rgb8: rgb8.into() }
}

/// What the ranker makes of a picture whose first token is this.
pub(crate) fn score(first: u32) -> f32 {
    (first * 8) as f32 / 255.0
}

pub(crate) fn log_likelihood(candidate: u32) -> f64 {
    -1.5 - f64::from(candidate)
}

/// In another order than the likelihood and the score.
pub(crate) fn unconditional_log_likelihood(candidate: u32) -> f64 {
    -3.0 - f64::from(candidate * 7 % 5)
}

#[tonic::async_trait]
impl TokenizerService for Fake {
    async fn tokenize(&self, request: Request<TokenizeRequest>) -> Result<Response<TokenizeResponse>, Status> {
        self.begin("tokenize", &request)?;
        let request = request.into_inner();
        let token = |word: &str| Token { id: word.len() as u32, piece: word.to_owned(), ..Token::default() };
        let tokens = request.prompt.split_whitespace().map(token).collect();
        let (unknown_words, nearest_words) = (vec!["avocado".to_owned()], vec!["avocados".to_owned()]);
        self.script.note(|seen| seen.tokenized.push(request));
        Ok(Response::new(TokenizeResponse { tokens, truncated: true, unknown_words, nearest_words, package: None }))
    }

    async fn detokenize(&self, _: Request<DetokenizeRequest>) -> Result<Response<DetokenizeResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn describe_packages(
        &self,
        request: Request<DescribePackagesRequest>,
    ) -> Result<Response<DescribePackagesResponse>, Status> {
        self.begin("describe_packages", &request)?;
        self.script.note(|seen| seen.described += 1);
        let packages = vec![self.script.package.lock().unwrap().clone()];
        Ok(Response::new(DescribePackagesResponse { packages }))
    }
}

#[tonic::async_trait]
impl SamplerService for Fake {
    type SampleStream = Answers<SampleResponse>;

    async fn sample(&self, request: Request<SampleRequest>) -> Result<Response<Self::SampleStream>, Status> {
        self.begin("sample", &request)?;
        let request = request.into_inner();
        let open = Open::new(&self.script, "sampler");
        self.script.note(|seen| seen.sampled.push(request.clone()));
        let script = self.script.clone();
        let events = futures::stream::iter(events(&request)).then(move |event| {
            let (script, _open) = (script.clone(), &open);
            async move {
                if matches!(event, sample_response::Event::Chunk(_)) {
                    script.chunks.acquire().await.unwrap().forget();
                    script.outcome("chunk")?;
                }
                Ok(SampleResponse { event: Some(event) })
            }
        });
        Ok(Response::new(events.boxed()))
    }
}

/// A chunk of each candidate in turn.
fn events(request: &SampleRequest) -> Vec<sample_response::Event> {
    use sample_response::{Admitted, Event, Finished, Queued};
    let given = request.given.clone().unwrap_or_default();
    let positions: Vec<u32> = match given.positions.is_empty() {
        true => (0..given.tokens.len() as u32).collect(),
        false => given.positions,
    };
    let given: BTreeMap<u32, u32> = positions.into_iter().zip(given.tokens).collect();
    let mut events = vec![
        Event::Queued(Queued { position: 2, estimated_wait_seconds: 1.5 }),
        Event::Admitted(Admitted { slots: 1, slots_total: 8, queue_seconds: 0.0, prefill_tokens: 8 }),
    ];
    let chunk = if request.chunk_size == 0 { ROW } else { request.chunk_size };
    for start in (0..CELLS).step_by(chunk as usize) {
        for candidate in &request.candidates {
            let token = |p| given.get(&p).copied().unwrap_or_else(|| token(candidate.seed, p));
            let tokens = (start..CELLS.min(start + chunk)).map(token).collect();
            events.push(Event::Chunk(TokenChunk { candidate: candidate.id, start, tokens }));
        }
    }
    let guided = request.parameters.unwrap_or_default().guidance_scale() != 1.0;
    let finished = |id| Finished {
        candidate: id,
        log_likelihood: log_likelihood(id),
        unconditional_log_likelihood: guided.then(|| unconditional_log_likelihood(id)),
        ..Finished::default()
    };
    events.extend(request.candidates.iter().map(|candidate| Event::Finished(finished(candidate.id))));
    events
}

#[tonic::async_trait]
impl DecoderService for Fake {
    type DecodeStream = Answers<DecodeResponse>;

    async fn decode(&self, request: Request<Streaming<DecodeRequest>>) -> Result<Response<Self::DecodeStream>, Status> {
        self.begin("decode", &request)?;
        let mut requests = request.into_inner();
        let Some(decode_request::Message::Header(header)) = requests.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::invalid_argument("no header"));
        };
        self.script.note(|seen| seen.decoding.push(header.clone()));
        let (script, open) = (self.script.clone(), Open::new(&self.script, "decoder"));
        let (answers, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let _open = open;
            if let Err(status) = decode(script, header, requests, &answers).await {
                answers.send(Err(status)).await.ok();
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        self.begin("encode", &request)?;
        let request = request.into_inner();
        self.script.note(|seen| seen.encoded.push(request));
        let tokens = (0..CELLS).map(|position| position + 10).collect();
        Ok(Response::new(EncodeResponse { grid: Some(Grid { rows: 4, columns: 4 }), tokens, seen: None }))
    }
}

async fn decode(
    script: Script,
    header: decode_request::Header,
    mut requests: Streaming<DecodeRequest>,
    answers: &mpsc::Sender<Result<DecodeResponse, Status>>,
) -> Result<(), Status> {
    use decode_response::{Event, Finished, Preview};
    let every = header.previews.unwrap_or_default().every_tokens;
    let side = script.package.lock().unwrap().image_width;
    let mut grids: BTreeMap<u32, Vec<u32>> = header.candidates.into_iter().map(|id| (id, Vec::new())).collect();
    while let Some(request) = requests.message().await? {
        let Some(decode_request::Message::Chunk(chunk)) = request.message else {
            return Err(Status::invalid_argument("a second header"));
        };
        script.note(|seen| seen.chunks.push(chunk.clone()));
        script.decodes.acquire().await.unwrap().forget();
        script.outcome("decode_chunk")?;
        let candidate = chunk.candidate;
        let grid = grids.get_mut(&candidate).unwrap();
        let before = grid.len() as u32;
        grid.extend(chunk.tokens);
        let done = grid.len() as u32;
        let picture = Some(pixels(side, grid[0], grid.len()));
        let event = match done == CELLS {
            true => Event::Finished(Finished { candidate, picture }),
            false if every > 0 && done / every > before / every => {
                Event::Preview(Preview { candidate, tokens_done: done, picture })
            }
            false => continue,
        };
        if answers.send(Ok(DecodeResponse { event: Some(event) })).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[tonic::async_trait]
impl RankerService for Fake {
    type RankStream = Answers<RankResponse>;

    async fn rank(&self, request: Request<Streaming<RankRequest>>) -> Result<Response<Self::RankStream>, Status> {
        self.begin("rank", &request)?;
        let mut requests = request.into_inner();
        let Some(rank_request::Message::Header(header)) = requests.message().await?.and_then(|first| first.message)
        else {
            return Err(Status::invalid_argument("no header"));
        };
        self.script.note(|seen| seen.ranking.push(header));
        let (script, open) = (self.script.clone(), Open::new(&self.script, "ranker"));
        let scores = requests.map(move |request| {
            let _open = &open;
            script.outcome("score")?;
            script.note(|seen| seen.ranked += 1);
            let Some(rank_request::Message::Candidate(candidate)) = request?.message else {
                return Err(Status::invalid_argument("a second header"));
            };
            let clip_score = f32::from(candidate.picture.unwrap_or_default().rgb8[0]) / 255.0;
            Ok(RankResponse { candidate: candidate.id, clip_score })
        });
        Ok(Response::new(scores.boxed()))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        self.begin("embed", &request)?;
        self.script.embeds.acquire().await.unwrap().forget();
        let request = request.into_inner();
        let text = |tokens: &easel_proto::v1::TextTokens| Embedding { values: vec![tokens.ids.len() as f32] };
        let picture = |picture: &Picture| Embedding { values: vec![picture.width as f32, picture.height as f32] };
        Ok(Response::new(EmbedResponse {
            texts: request.texts.iter().map(text).collect(),
            pictures: request.pictures.iter().map(picture).collect(),
        }))
    }

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        self.begin("classify", &request)?;
        // The more words, the likelier.
        let words: Vec<f32> = request.get_ref().labels.iter().map(|label| label.ids.len() as f32).collect();
        let sum: f32 = words.iter().sum();
        let probabilities = words.iter().map(|count| count / sum).collect();
        Ok(Response::new(ClassifyResponse { probabilities, clip_scores: words }))
    }
}
