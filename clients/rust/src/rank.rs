use std::fmt;

use easel_proto::v1::{self, generate_response::ranking};

use crate::Error;

/// What orders the candidates; the higher its score the better. Needs and formulas are those of `easel.v1.RankBy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RankBy {
    /// The cosine of picture and caption, by CLIP.
    Clip,
    /// Mean ln p of a drawn token with the caption.
    Likelihood,
    /// By how much the caption makes the drawn tokens likelier: mean ln p with it, less without it. Needs guidance other than 1.
    CaptionGain,
    /// CLIP's score and the gain (the likelihood, where guidance is 1), each in standard deviations from the candidates' mean, added up.
    Both,
}

impl RankBy {
    pub(crate) fn to_proto(self) -> v1::RankBy {
        match self {
            Self::Clip => v1::RankBy::Clip,
            Self::Likelihood => v1::RankBy::Likelihood,
            Self::CaptionGain => v1::RankBy::CaptionGain,
            Self::Both => v1::RankBy::Both,
        }
    }

    fn from_proto(by: i32) -> Result<Option<Self>, Error> {
        Ok(match v1::RankBy::try_from(by).map_err(|_| Error::Incomplete { what: "a known order" })? {
            v1::RankBy::Unspecified => None,
            v1::RankBy::Clip => Some(Self::Clip),
            v1::RankBy::Likelihood => Some(Self::Likelihood),
            v1::RankBy::CaptionGain => Some(Self::CaptionGain),
            v1::RankBy::Both => Some(Self::Both),
        })
    }
}

impl fmt::Display for RankBy {
    /// As the command line has it: "clip", "likelihood", "gain", "both".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clip => "clip",
            Self::Likelihood => "likelihood",
            Self::CaptionGain => "gain",
            Self::Both => "both",
        })
    }
}

/// The order of the candidates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking {
    /// What it is by; none when nothing ranks.
    pub by: Option<RankBy>,
    /// All candidates, best first; empty when nothing ranks.
    pub entries: Vec<Ranked>,
}

impl Ranking {
    /// What a candidate was ranked by; none when nothing ranks.
    pub fn score(&self, candidate: u32) -> Option<f64> {
        self.entries.iter().find(|ranked| ranked.candidate == candidate).map(|ranked| ranked.score)
    }
}

/// A place in the ranking.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// The candidate's id.
    pub candidate: u32,
    /// What it was drawn with.
    pub seed: u64,
    /// What it was ranked by, as [`Ranking::by`] tells.
    pub score: f64,
    /// As [`Picture::clip_score`](crate::Picture::clip_score).
    pub clip_score: Option<f32>,
    /// As [`Picture::log_likelihood`](crate::Picture::log_likelihood).
    pub log_likelihood: f64,
    /// As [`Picture::unconditional_log_likelihood`](crate::Picture::unconditional_log_likelihood).
    pub unconditional_log_likelihood: Option<f64>,
}

impl TryFrom<v1::generate_response::Ranking> for Ranking {
    type Error = Error;

    fn try_from(ranking: v1::generate_response::Ranking) -> Result<Self, Error> {
        let by = RankBy::from_proto(ranking.rank_by)?;
        Ok(Self { by, entries: ranking.entries.into_iter().map(Ranked::from).collect() })
    }
}

impl From<ranking::Entry> for Ranked {
    fn from(entry: ranking::Entry) -> Self {
        let ranking::Entry { candidate, seed, clip_score, log_likelihood, unconditional_log_likelihood, score } = entry;
        Self { candidate, seed, score, clip_score, log_likelihood, unconditional_log_likelihood }
    }
}
