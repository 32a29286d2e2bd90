//! What the gateway tells while it draws.

use easel_proto::v1::{self, generate_response as proto};

use crate::{Error, Image, Ranking};

/// One event of a generation. For each candidate: queued (any number), started, progress and previews, its picture; then, once, ranking and finished.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The request waits for a place in the sampler.
    Queued(proto::Queued),
    /// Drawing has begun.
    Started(Started),
    /// A candidate has more tokens.
    Progress(proto::Progress),
    /// A candidate as far as it is drawn.
    Preview(Preview),
    /// A candidate, complete.
    Picture(Picture),
    /// All candidates, best first.
    Ranking(Ranking),
    /// Nothing follows.
    Finished(proto::Finished),
}

/// All that is needed to repeat a generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// Name and digest of the package that draws.
    pub package: v1::PackageRef,
    /// One for each candidate, in order of their ids 0, 1, …
    pub seeds: Vec<u64>,
    /// Every field set, defaults filled in.
    pub parameters: v1::SamplingParameters,
    /// As the sampler got them, without pads.
    pub text_tokens: Vec<u32>,
    /// The tokenizer's pieces, one for each token; empty when tokens were given.
    pub pieces: Vec<String>,
    /// The caption had more tokens than the model reads.
    pub truncated: bool,
    /// So had the negative prompt.
    pub negative_truncated: bool,
    /// Words of the prompt that the model was not taught, as far as the package can tell.
    pub unknown_words: Vec<String>,
    /// One for each of these: the word that the model was taught whose spelling is nearest; empty when none is near.
    pub nearest_words: Vec<String>,
    /// Shape of the image-token grid.
    pub grid: v1::Grid,
    /// Image tokens that were given, per candidate.
    pub given_tokens: u32,
    /// Pixels.
    pub image_width: u32,
    /// Pixels.
    pub image_height: u32,
}

/// A candidate as far as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// The candidate's id.
    pub candidate: u32,
    /// Tokens that are drawn; the other cells are grey.
    pub tokens_done: u32,
    /// The picture so far.
    pub image: Image,
}

/// A complete candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// The candidate's id.
    pub candidate: u32,
    /// What it was drawn with.
    pub seed: u64,
    /// The picture.
    pub image: Image,
    /// The cosine of picture and caption; none when nothing ranks.
    pub clip_score: Option<f32>,
    /// Raster order.
    pub image_tokens: Vec<u32>,
    /// Σ ln p(token) over the drawn tokens, under the model with the caption at temperature 1, in nats.
    pub log_likelihood: f64,
    /// The same under the model without the caption; none when guidance is 1.
    pub unconditional_log_likelihood: Option<f64>,
}

impl TryFrom<v1::GenerateResponse> for Event {
    type Error = Error;

    fn try_from(response: v1::GenerateResponse) -> Result<Self, Error> {
        Ok(match response.event.ok_or(Error::Incomplete { what: "an event" })? {
            proto::Event::Queued(queued) => Self::Queued(queued),
            proto::Event::Started(started) => Self::Started(started.try_into()?),
            proto::Event::Progress(progress) => Self::Progress(progress),
            proto::Event::Preview(proto::Preview { candidate, tokens_done, image }) => {
                Self::Preview(Preview { candidate, tokens_done, image: Image::from_proto(image)? })
            }
            proto::Event::Picture(picture) => Self::Picture(picture.try_into()?),
            proto::Event::Ranking(ranking) => Self::Ranking(ranking.try_into()?),
            proto::Event::Finished(finished) => Self::Finished(finished),
        })
    }
}

impl TryFrom<proto::Started> for Started {
    type Error = Error;

    fn try_from(started: proto::Started) -> Result<Self, Error> {
        Ok(Self {
            package: started.package.ok_or(Error::Incomplete { what: "the package" })?,
            seeds: started.seeds,
            parameters: started.parameters.ok_or(Error::Incomplete { what: "the parameters" })?,
            text_tokens: started.text_tokens,
            pieces: started.pieces,
            truncated: started.truncated,
            negative_truncated: started.negative_truncated,
            unknown_words: started.unknown_words,
            nearest_words: started.nearest_words,
            grid: started.grid.ok_or(Error::Incomplete { what: "the grid" })?,
            given_tokens: started.given_tokens,
            image_width: started.image_width,
            image_height: started.image_height,
        })
    }
}

impl TryFrom<proto::GeneratedPicture> for Picture {
    type Error = Error;

    fn try_from(picture: proto::GeneratedPicture) -> Result<Self, Error> {
        Ok(Self {
            candidate: picture.candidate,
            seed: picture.seed,
            image: Image::from_proto(picture.image)?,
            clip_score: picture.clip_score,
            image_tokens: picture.image_tokens,
            log_likelihood: picture.log_likelihood,
            unconditional_log_likelihood: picture.unconditional_log_likelihood,
        })
    }
}
