//! The order of the work, which nobody else knows:
//!
//! caption → text tokens (and the given picture → given tokens) → image tokens, chunk by chunk → previews and
//! pictures → scores → the ranking.
//!
//! The stages run at the same time, each as far as the one before it has come. Pixels between two of them are few:
//! whoever is slow is waited for. Tokens are small, and a sampler's slots dear: all that it draws is taken at once. So
//! the one wait is that of a picture or preview for room, which is given back as they go to the caller; nothing that
//! makes a picture complete waits behind it. Dropping a drawing drops the calls to all stages.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use easel_proto::v1::generate_response::{Queued, Ranking, Started};
use easel_proto::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, GivenTokens, PreviewPolicy, RankBy, RankRequest, RankResponse,
    SampleRequest, SampleResponse, TextTokens, TokenizeRequest, TokenizeResponse, Vocabulary, decode_request,
    decode_response, rank_request, sample_request, sample_response, tokenize_response::Token,
};
use easel_server::Deadline;
use futures::{future::OptionFuture, try_join};
use tokio::sync::mpsc::Sender;
use tonic::Status;

use crate::board::{Best, Board, Complete, Nonsense};
use crate::fault;
use crate::outbox::{Event, Outbox, Preview};
use crate::plan::Plan;
use crate::rank::{Likelihood, Order};
use crate::stages::{Answers, Stage, Stages};
use crate::times::Times;

/// One request being drawn.
pub(crate) struct Drawing<'a> {
    stages: &'a Stages,
    plan: &'a Plan,
    deadline: Deadline,
    times: &'a Times,
    outbox: &'a Outbox,
    board: Mutex<Board>,
    best: Mutex<Best>,
}

/// The caption in both vocabularies.
struct Caption {
    sampler: TokenizeResponse,
    /// What guidance leads away from; none: the package's own.
    negative: Option<TokenizeResponse>,
    ranker: Option<TextTokens>,
}

impl<'a> Drawing<'a> {
    pub(crate) fn new(
        stages: &'a Stages,
        plan: &'a Plan,
        deadline: Deadline,
        times: &'a Times,
        outbox: &'a Outbox,
    ) -> Self {
        let board = Mutex::new(Board::new(plan.shape(), &plan.seeds));
        let best = Mutex::new(Best::new(plan.keep));
        Self { stages, plan, deadline, times, outbox, board, best }
    }

    /// Draws: all events but the errors go to the outbox.
    pub(crate) async fn run(&self) -> Result<(), Status> {
        self.outbox.put(Event::Queued(Queued::default()));
        let (caption, given) = try_join!(self.read_caption(), self.read_picture())?;
        let tokens = self.begin(&caption, given).await?;
        let (decoding, ranking) = try_join!(self.open_decoder(), self.open_ranker(caption.ranker))?;
        let ((chunks, pictures), (candidates, scores)) = (decoding, ranking.unzip());
        try_join!(
            self.relay_tokens(tokens, chunks),
            self.relay_pictures(pictures, candidates),
            self.relay_scores(scores),
        )?;
        self.end().await;
        Ok(())
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("no one panics with it")
    }

    /// Caption → text tokens, for the sampler and, where there is something to rank by, for the ranker.
    async fn read_caption(&self) -> Result<Caption, Status> {
        let plan = self.plan;
        let tokenize = |prompt: &str, vocabulary: Vocabulary| {
            let (package, prompt) = (Some(plan.package_ref()), prompt.to_owned());
            let request = TokenizeRequest { package, prompt, vocabulary: vocabulary.into() };
            self.times.during(Stage::Tokenizer, self.stages.tokenize(request, self.deadline))
        };
        let for_sampler = async {
            if plan.tokenizes() {
                return tokenize(&plan.prompt, Vocabulary::Sampler).await;
            }
            let tokens = plan.text_tokens.iter().map(|&id| Token { id, ..Token::default() }).collect();
            Ok(TokenizeResponse { tokens, ..TokenizeResponse::default() })
        };
        let negative = Some(&plan.negative_prompt).filter(|prompt| !prompt.is_empty());
        let negative: OptionFuture<_> = negative.map(|prompt| tokenize(prompt, Vocabulary::Sampler)).into();
        let for_ranker: OptionFuture<_> = plan.scores().then(|| tokenize(&plan.prompt, Vocabulary::Ranker)).into();
        let (sampler, negative, ranker) =
            try_join!(for_sampler, async { negative.await.transpose() }, async { for_ranker.await.transpose() })?;
        Ok(Caption { sampler, negative, ranker: ranker.map(|ranker| TextTokens { ids: ids(&ranker) }) })
    }

    /// The given picture → the image tokens that are kept of it.
    async fn read_picture(&self) -> Result<Option<GivenTokens>, Status> {
        let Some((decoded, kept)) = &self.plan.image else {
            return Ok(None);
        };
        let request = EncodeRequest { package: Some(self.plan.package_ref()), picture: Some(decoded.picture.clone()) };
        let encoding = self.stages.encode(request, self.deadline);
        let encoded = self.times.during(Stage::Decoder, encoding).await?;
        if encoded.tokens.len() != self.plan.shape().cells as usize {
            return Err(fault::broken(Stage::Decoder, "gave another number of tokens than the grid has cells"));
        }
        Ok(Some(kept.given(&encoded.tokens)))
    }

    /// Text tokens → the sampler, until it has let the request in.
    async fn begin(&self, caption: &Caption, given: Option<GivenTokens>) -> Result<Answers<SampleResponse>, Status> {
        let numbered = (0..).zip(&self.plan.seeds);
        let request = SampleRequest {
            package: Some(self.plan.package_ref()),
            text_tokens: ids(&caption.sampler),
            negative_tokens: caption.negative.as_ref().map(|negative| TextTokens { ids: ids(negative) }),
            candidates: numbered.map(|(id, &seed)| sample_request::Candidate { id, seed }).collect(),
            parameters: Some(self.plan.parameters),
            given,
            chunk_size: self.plan.chunk_size(),
        };
        let mut answers = self.stages.sample(request, self.deadline).await?;
        loop {
            let answer = answers.next().await?.ok_or_else(|| fault::incomplete(Stage::Sampler))?;
            self.times.answer(Stage::Sampler);
            match answer.event {
                Some(sample_response::Event::Queued(queued)) => self.outbox.put(Event::Queued(Queued {
                    position: queued.position,
                    estimated_wait_seconds: queued.estimated_wait_seconds,
                })),
                Some(sample_response::Event::Admitted(_)) => break,
                _ => return Err(fault::broken(Stage::Sampler, "drew before it let the request in")),
            }
        }
        self.times.begin(Stage::Sampler);
        self.outbox.put(Event::Started(Box::new(self.started(caption))));
        Ok(answers)
    }

    fn started(&self, Caption { sampler: caption, negative, .. }: &Caption) -> Started {
        let plan = self.plan;
        let pieces = match plan.text_tokens.is_empty() {
            true => caption.tokens.iter().map(|token| token.piece.clone()).collect(),
            false => Vec::new(),
        };
        Started {
            package: Some(plan.package_ref()),
            seeds: plan.seeds.clone(),
            parameters: Some(plan.parameters),
            text_tokens: ids(caption),
            pieces,
            truncated: caption.truncated,
            grid: plan.package.grid,
            unknown_words: caption.unknown_words.clone(),
            given_tokens: plan.shape().given,
            image_width: plan.package.image_width,
            image_height: plan.package.image_height,
            nearest_words: caption.nearest_words.clone(),
            negative_truncated: negative.as_ref().is_some_and(|negative| negative.truncated),
        }
    }

    async fn open_decoder(&self) -> Result<(Sender<DecodeRequest>, Answers<DecodeResponse>), Status> {
        let header = decode_request::Header {
            package: Some(self.plan.package_ref()),
            candidates: (0..self.plan.candidates()).collect(),
            previews: Some(PreviewPolicy { every_tokens: self.plan.preview_every() }),
        };
        let chunks = self.plan.candidates() * self.plan.shape().cells;
        self.stages.decode(header, chunks as usize, self.deadline).await
    }

    async fn open_ranker(
        &self,
        caption: Option<TextTokens>,
    ) -> Result<Option<(Sender<RankRequest>, Answers<RankResponse>)>, Status> {
        if caption.is_none() {
            return Ok(None);
        }
        let header = rank_request::Header { package: Some(self.plan.package_ref()), caption };
        self.stages.rank(header, self.deadline).await.map(Some)
    }

    /// Image tokens → the decoder, each chunk as it comes.
    async fn relay_tokens(
        &self,
        mut tokens: Answers<SampleResponse>,
        decoder: Sender<DecodeRequest>,
    ) -> Result<(), Status> {
        while let Some(answer) = tokens.next().await? {
            self.times.answer(Stage::Sampler);
            match answer.event {
                Some(sample_response::Event::Chunk(chunk)) => {
                    let drawn = self.board().drew(&chunk, Instant::now());
                    let progress = drawn.map_err(nonsense(Stage::Sampler))?;
                    self.outbox.put(Event::Progress(progress));
                    if progress.tokens_done == progress.tokens_total {
                        self.times.begin(Stage::Decoder);
                    }
                    let chunk = DecodeRequest { message: Some(decode_request::Message::Chunk(chunk)) };
                    if decoder.send(chunk).await.is_err() {
                        // The decoder is gone; its answers say why.
                        return Ok(());
                    }
                }
                Some(sample_response::Event::Finished(finished)) => {
                    let likelihood = Likelihood {
                        conditional: finished.log_likelihood,
                        unconditional: finished.unconditional_log_likelihood,
                    };
                    let complete = self.board().finished(finished.candidate, likelihood);
                    self.deliver(complete.map_err(nonsense(Stage::Sampler))?);
                }
                _ => {}
            }
        }
        if !self.board().all_finished() {
            return Err(fault::incomplete(Stage::Sampler));
        }
        self.times.end(Stage::Sampler);
        Ok(())
    }

    /// Previews → the caller; pictures → the ranker.
    async fn relay_pictures(
        &self,
        mut pictures: Answers<DecodeResponse>,
        ranker: Option<Sender<RankRequest>>,
    ) -> Result<(), Status> {
        while let Some(answer) = pictures.next().await? {
            match answer.event {
                Some(decode_response::Event::Preview(preview)) => {
                    self.times.answer(Stage::Decoder);
                    let (candidate, tokens_done) = (preview.candidate, preview.tokens_done);
                    let picture = preview.picture.unwrap_or_default();
                    self.board().previewed(candidate, &picture).map_err(nonsense(Stage::Decoder))?;
                    self.outbox.put_preview(Preview { candidate, tokens_done, picture }).await;
                }
                Some(decode_response::Event::Finished(finished)) => {
                    self.times.end(Stage::Decoder);
                    let (id, picture) = (finished.candidate, finished.picture.unwrap_or_default());
                    let room = self.outbox.room().await;
                    let complete = self.board().decoded(id, picture.clone(), room);
                    self.deliver(complete.map_err(nonsense(Stage::Decoder))?);
                    let Some(ranker) = &ranker else { continue };
                    self.times.begin(Stage::Ranker);
                    let candidate = rank_request::Candidate { id, picture: Some(picture) };
                    let candidate = RankRequest { message: Some(rank_request::Message::Candidate(candidate)) };
                    if ranker.send(candidate).await.is_err() {
                        // The ranker is gone; its answers say why.
                        return Ok(());
                    }
                }
                None => {}
            }
        }
        match self.board().all_decoded() {
            true => Ok(()),
            false => Err(fault::incomplete(Stage::Decoder)),
        }
    }

    /// Scores → the board.
    async fn relay_scores(&self, scores: Option<Answers<RankResponse>>) -> Result<(), Status> {
        let Some(mut scores) = scores else {
            return Ok(());
        };
        while let Some(RankResponse { candidate, clip_score }) = scores.next().await? {
            self.times.end(Stage::Ranker);
            let complete = self.board().scored(candidate, clip_score);
            self.deliver(complete.map_err(nonsense(Stage::Ranker))?);
        }
        match self.board().all_scored() {
            true => Ok(()),
            false => Err(fault::incomplete(Stage::Ranker)),
        }
    }

    /// A complete picture → the caller, or, when only the best are wanted, aside until all are known.
    fn deliver(&self, complete: Option<Complete>) {
        let Some(complete) = complete else { return };
        if self.plan.keep < self.plan.seeds.len() {
            self.best.lock().expect("no one panics with it").insert(complete);
        } else {
            self.outbox.put(Event::Picture(Box::new(complete)));
        }
    }

    /// The best pictures, the ranking, the end.
    async fn end(&self) {
        let entries = self.board().ranking();
        let best = self.best.lock().expect("no one panics with it").take(&entries);
        for picture in best {
            let room = Some(self.outbox.room().await);
            self.outbox.put(Event::Picture(Box::new(Complete { room, ..picture })));
        }
        let rank_by = self.plan.order.map_or(RankBy::Unspecified, Order::told);
        self.outbox.put(Event::Ranking(Ranking { entries, rank_by: rank_by.into() }));
        let shape = self.plan.shape();
        self.outbox.put(Event::Finished { tokens_drawn: (shape.cells - shape.given) * self.plan.candidates() });
    }
}

fn ids(tokenized: &TokenizeResponse) -> Vec<u32> {
    tokenized.tokens.iter().map(|token| token.id).collect()
}

fn nonsense(stage: Stage) -> impl Fn(Nonsense) -> Status {
    move |nonsense| fault::broken(stage, &nonsense.to_string())
}
