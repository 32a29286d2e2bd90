//! `generation.json`: everything about a generation, for people and for programs that compare.

use easel_client::{Outcome, Picture, Ranked, StageTime};
use serde::Serialize;

use super::{FileFormat, Generate, Written, folder};

/// The record, in the order in which it is written.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    easel_version: &'static str,
    command: &'a str,
    package: Package<'a>,
    /// Empty when only tokens were given.
    pub(super) prompt: String,
    /// None: the package's own unconditional caption.
    negative_prompt: Option<&'a str>,
    /// As the sampler got them, without pads.
    text_tokens: &'a [u32],
    /// The tokenizer's, one for each token; empty when tokens were given.
    pieces: &'a [String],
    unknown_words: &'a [String],
    /// One for each of these; empty when none is near.
    nearest_words: &'a [String],
    truncated: bool,
    candidates: u32,
    keep: Option<u32>,
    /// One for each candidate.
    seeds: &'a [u64],
    parameters: Parameters,
    image_prompt: Option<ImagePrompt>,
    grid: Grid,
    image: Image,
    /// What the order is by, and the scores: "clip", "likelihood", "gain" or "both"; none when nothing ranks.
    rank_by: Option<String>,
    /// Best first.
    pictures: Vec<PictureRecord<'a>>,
    /// All candidates, best first; empty when nothing ranks.
    ranking: Vec<RankedRecord>,
    /// Relative to the folder.
    sheet: &'static str,
    stages: Vec<Stage<'a>>,
    total_seconds: f64,
    tokens_drawn: u32,
    tokens_per_second: f64,
}

#[derive(Serialize)]
struct Package<'a> {
    name: &'a str,
    digest: &'a str,
}

#[derive(Serialize)]
struct Parameters {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    guidance_scale: Option<f32>,
}

#[derive(Serialize)]
struct ImagePrompt {
    file: String,
    keep_rows: Option<u32>,
    redraw_from: Option<(u32, u32)>,
    /// Image tokens that were not drawn, per candidate.
    given_tokens: u32,
}

#[derive(Serialize)]
struct Grid {
    rows: u32,
    columns: u32,
}

#[derive(Serialize)]
struct Image {
    width: u32,
    height: u32,
    format: &'static str,
    /// Of JPEG.
    quality: Option<u32>,
}

#[derive(Serialize)]
struct PictureRecord<'a> {
    /// Relative to the folder.
    file: &'a str,
    rank: usize,
    candidate: u32,
    seed: u64,
    score: Option<f64>,
    clip_score: Option<f32>,
    /// Σ ln p over the drawn tokens, in nats.
    log_likelihood: f64,
    /// None when guidance is 1.
    unconditional_log_likelihood: Option<f64>,
    /// Raster order.
    image_tokens: &'a [u32],
}

#[derive(Serialize)]
struct RankedRecord {
    candidate: u32,
    seed: u64,
    score: f64,
    clip_score: Option<f32>,
    log_likelihood: f64,
    unconditional_log_likelihood: Option<f64>,
}

#[derive(Serialize)]
struct Stage<'a> {
    stage: &'a str,
    first_seconds: f64,
    last_seconds: f64,
    busy_seconds: f64,
}

impl<'a> Record<'a> {
    pub(super) fn new(generate: &'a Generate, outcome: &'a Outcome, written: &'a Written, command: &'a str) -> Self {
        let Outcome { started, pictures, ranking, finished } = outcome;
        let format = easel_client::Format::from(generate.format).extension();
        let files = pictures.iter().zip(&written.pictures).enumerate();
        let picture = |(rank, (picture, file)): (usize, (&'a Picture, &'a String))| {
            picture_record(rank + 1, ranking.score(picture.candidate), picture, file)
        };
        Self {
            easel_version: env!("CARGO_PKG_VERSION"),
            command,
            package: Package { name: &started.package.name, digest: &started.package.digest },
            prompt: generate.caption(),
            negative_prompt: generate.parameters.negative_prompt.as_deref(),
            text_tokens: &started.text_tokens,
            pieces: &started.pieces,
            unknown_words: &started.unknown_words,
            nearest_words: &started.nearest_words,
            truncated: started.truncated,
            candidates: generate.candidates,
            keep: generate.keep,
            seeds: &started.seeds,
            parameters: Parameters {
                temperature: started.parameters.temperature,
                top_k: started.parameters.top_k,
                top_p: started.parameters.top_p,
                guidance_scale: started.parameters.guidance_scale,
            },
            image_prompt: generate.image.image.as_ref().map(|file| ImagePrompt {
                file: file.display().to_string(),
                keep_rows: generate.image.keep_rows,
                redraw_from: generate.image.redraw_from,
                given_tokens: started.given_tokens,
            }),
            grid: Grid { rows: started.grid.rows, columns: started.grid.columns },
            image: Image {
                width: started.image_width,
                height: started.image_height,
                format,
                quality: (generate.format == FileFormat::Jpeg).then(|| generate.quality()),
            },
            rank_by: ranking.by.map(|by| by.to_string()),
            pictures: files.map(picture).collect(),
            ranking: ranking.entries.iter().map(ranked_record).collect(),
            sheet: folder::SHEET,
            stages: finished.stages.iter().map(stage).collect(),
            total_seconds: finished.total_seconds,
            tokens_drawn: finished.tokens_drawn,
            tokens_per_second: finished.tokens_per_second,
        }
    }
}

fn picture_record<'a>(rank: usize, score: Option<f64>, picture: &'a Picture, file: &'a str) -> PictureRecord<'a> {
    PictureRecord {
        file,
        rank,
        candidate: picture.candidate,
        seed: picture.seed,
        score,
        clip_score: picture.clip_score,
        log_likelihood: picture.log_likelihood,
        unconditional_log_likelihood: picture.unconditional_log_likelihood,
        image_tokens: &picture.image_tokens,
    }
}

fn ranked_record(ranked: &Ranked) -> RankedRecord {
    let Ranked { candidate, seed, score, clip_score, log_likelihood, unconditional_log_likelihood } = *ranked;
    RankedRecord { candidate, seed, score, clip_score, log_likelihood, unconditional_log_likelihood }
}

fn stage(time: &StageTime) -> Stage<'_> {
    let StageTime { stage, first_seconds, last_seconds, busy_seconds } = time;
    Stage { stage, first_seconds: *first_seconds, last_seconds: *last_seconds, busy_seconds: *busy_seconds }
}
