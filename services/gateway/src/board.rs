//! What is known of each candidate of a request so far. No waiting, no stages: facts in, completed candidates out.

use std::time::Instant;

use easel_proto::v1::generate_response::Progress;
use easel_proto::v1::generate_response::ranking::Entry;
use easel_proto::v1::{Picture, TokenChunk};

use crate::outbox::Room;
use crate::rank::{Facts, Likelihood, Order};

/// A candidate of which all is known.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) candidate: u32,
    pub(crate) seed: u64,
    pub(crate) picture: Picture,
    pub(crate) clip_score: Option<f32>,
    pub(crate) image_tokens: Vec<u32>,
    pub(crate) likelihood: Likelihood,
    /// By which it is ordered; none when nothing ranks, or when it takes all candidates to tell.
    pub(crate) score: Option<f64>,
    /// What it takes up of the room for pictures.
    pub(crate) room: Option<Room>,
}

/// What a stage said that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Nonsense {
    #[error("answered for a candidate that there is not")]
    Candidate,
    #[error("answered out of order")]
    Order,
    #[error("gave a picture of the wrong size")]
    Picture,
    #[error("gave a score that is no number")]
    Score,
    #[error("gave no likelihood without the caption")]
    Likelihood,
}

/// What has to be known of a request's pictures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Tokens of a picture.
    pub(crate) cells: u32,
    /// Of which are given.
    pub(crate) given: u32,
    /// Pixels.
    pub(crate) width: u32,
    /// Pixels.
    pub(crate) height: u32,
    /// Whether CLIP scores the candidates.
    pub(crate) scored: bool,
    /// What orders them; none: nothing does.
    pub(crate) order: Option<Order>,
}

#[derive(Debug, Default)]
struct Candidate {
    seed: u64,
    tokens: Vec<u32>,
    // When how many tokens were there: the first that was drawn.
    start: Option<(Instant, u32)>,
    likelihood: Option<Likelihood>,
    picture: Option<Picture>,
    room: Option<Room>,
    clip_score: Option<f32>,
    delivered: bool,
}

/// The candidates of one request.
#[derive(Debug)]
pub(crate) struct Board {
    shape: Shape,
    candidates: Vec<Candidate>,
}

impl Board {
    /// Candidates 0, 1, … with these seeds; nothing is known of them yet.
    pub(crate) fn new(shape: Shape, seeds: &[u64]) -> Self {
        let candidate = |&seed| Candidate { seed, ..Candidate::default() };
        Self { shape, candidates: seeds.iter().map(candidate).collect() }
    }

    fn candidate(&mut self, id: u32) -> Result<&mut Candidate, Nonsense> {
        self.candidates.get_mut(id as usize).ok_or(Nonsense::Candidate)
    }

    /// The sampler drew more of a candidate, at `now`.
    pub(crate) fn drew(&mut self, chunk: &TokenChunk, now: Instant) -> Result<Progress, Nonsense> {
        let Shape { cells, given, .. } = self.shape;
        let candidate = self.candidate(chunk.candidate)?;
        let done = candidate.tokens.len() + chunk.tokens.len();
        let follows = chunk.start as usize == candidate.tokens.len() && done <= cells as usize;
        if chunk.tokens.is_empty() || !follows || candidate.likelihood.is_some() {
            return Err(Nonsense::Order);
        }
        candidate.tokens.extend_from_slice(&chunk.tokens);
        let done = done as u32;
        let rate = match candidate.start {
            Some((since, from)) if from >= given => {
                f64::from(done - from) / now.duration_since(since).as_secs_f64().max(f64::MIN_POSITIVE)
            }
            _ => {
                candidate.start = Some((now, done));
                0.0
            }
        };
        let tokens_per_second = if rate.is_finite() { rate } else { 0.0 };
        Ok(Progress { candidate: chunk.candidate, tokens_done: done, tokens_total: cells, tokens_per_second })
    }

    /// The sampler has finished a candidate.
    pub(crate) fn finished(&mut self, id: u32, likelihood: Likelihood) -> Result<Option<Complete>, Nonsense> {
        let Likelihood { conditional, unconditional } = likelihood;
        if !conditional.is_finite() || unconditional.is_some_and(|nats| !nats.is_finite()) {
            return Err(Nonsense::Score);
        }
        if unconditional.is_none() && self.shape.order.is_some_and(Order::needs_unconditional) {
            return Err(Nonsense::Likelihood);
        }
        let cells = self.shape.cells as usize;
        let candidate = self.candidate(id)?;
        if candidate.tokens.len() != cells || candidate.likelihood.is_some() {
            return Err(Nonsense::Order);
        }
        candidate.likelihood = Some(likelihood);
        Ok(self.complete(id))
    }

    /// The decoder showed a part of a candidate.
    pub(crate) fn previewed(&mut self, id: u32, picture: &Picture) -> Result<(), Nonsense> {
        self.check(picture)?;
        let candidate = self.candidate(id)?;
        match candidate.delivered || candidate.picture.is_some() {
            true => Err(Nonsense::Order),
            false => Ok(()),
        }
    }

    /// The decoder has finished a candidate's picture.
    pub(crate) fn decoded(&mut self, id: u32, picture: Picture, room: Room) -> Result<Option<Complete>, Nonsense> {
        self.check(&picture)?;
        let candidate = self.candidate(id)?;
        if candidate.delivered || candidate.picture.replace(picture).is_some() {
            return Err(Nonsense::Order);
        }
        candidate.room = Some(room);
        Ok(self.complete(id))
    }

    /// The ranker has scored a candidate's picture.
    pub(crate) fn scored(&mut self, id: u32, clip_score: f32) -> Result<Option<Complete>, Nonsense> {
        if !clip_score.is_finite() {
            return Err(Nonsense::Score);
        }
        let candidate = self.candidate(id)?;
        if candidate.picture.is_none() || candidate.clip_score.replace(clip_score).is_some() {
            return Err(Nonsense::Order);
        }
        Ok(self.complete(id))
    }

    fn check(&self, picture: &Picture) -> Result<(), Nonsense> {
        let Shape { width, height, .. } = self.shape;
        let bytes = width as usize * height as usize * 3;
        match picture.width == width && picture.height == height && picture.rgb8.len() == bytes {
            true => Ok(()),
            false => Err(Nonsense::Picture),
        }
    }

    /// Hands a candidate out, once, when all is known of it.
    fn complete(&mut self, id: u32) -> Option<Complete> {
        let Shape { scored, order, .. } = self.shape;
        let facts = self.facts(id as usize);
        let candidate = &mut self.candidates[id as usize];
        let likelihood = candidate.likelihood?;
        if scored && candidate.clip_score.is_none() {
            return None;
        }
        let picture = candidate.picture.take()?;
        candidate.delivered = true;
        Some(Complete {
            candidate: id,
            seed: candidate.seed,
            picture,
            clip_score: candidate.clip_score,
            image_tokens: std::mem::take(&mut candidate.tokens),
            likelihood,
            score: order.and_then(|order| order.score(&facts)),
            room: candidate.room.take(),
        })
    }

    /// Whether the sampler has finished all candidates.
    pub(crate) fn all_finished(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.likelihood.is_some())
    }

    /// Whether all candidates have their picture.
    pub(crate) fn all_decoded(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.delivered || candidate.picture.is_some())
    }

    /// Whether all candidates have their score.
    pub(crate) fn all_scored(&self) -> bool {
        self.candidates.iter().all(|candidate| candidate.clip_score.is_some())
    }

    fn facts(&self, index: usize) -> Facts {
        let Candidate { clip_score, likelihood, .. } = self.candidates[index];
        let drawn = self.shape.cells - self.shape.given;
        Facts { clip_score, likelihood: likelihood.unwrap_or_default(), drawn }
    }

    /// The candidates, best first: by score, the lower id first on a tie. Empty when nothing ranks.
    pub(crate) fn ranking(&self) -> Vec<Entry> {
        let Some(order) = self.shape.order else {
            return Vec::new();
        };
        let facts: Vec<Facts> = (0..self.candidates.len()).map(|index| self.facts(index)).collect();
        let entry = |(index, score): (usize, f64)| Entry {
            candidate: index as u32,
            seed: self.candidates[index].seed,
            clip_score: facts[index].clip_score,
            log_likelihood: facts[index].likelihood.conditional,
            unconditional_log_likelihood: facts[index].likelihood.unconditional,
            score,
        };
        let mut entries: Vec<Entry> = order.scores(&facts).into_iter().enumerate().map(entry).collect();
        entries.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.candidate.cmp(&b.candidate)));
        entries
    }
}

/// The best of a request's pictures.
#[derive(Debug)]
pub(crate) struct Best {
    keep: usize,
    pictures: Vec<Complete>,
}

impl Best {
    /// For at most `keep` pictures.
    pub(crate) fn new(keep: usize) -> Self {
        Self { keep, pictures: Vec::new() }
    }

    /// Takes a picture in, and drops the worst of those that are too many, if that can be told by now. Here it takes up no room between the stages.
    pub(crate) fn insert(&mut self, mut picture: Complete) {
        picture.room = None;
        let Some(score) = picture.score else {
            return self.pictures.push(picture);
        };
        let better = |other: &Complete| {
            let by_score = other.score.unwrap_or(f64::MIN).total_cmp(&score);
            by_score.then(picture.candidate.cmp(&other.candidate)).is_gt()
        };
        let place = self.pictures.partition_point(better);
        self.pictures.insert(place, picture);
        self.pictures.truncate(self.keep);
    }

    /// The pictures, best first, as `ranking` tells.
    pub(crate) fn take(&mut self, ranking: &[Entry]) -> Vec<Complete> {
        let mut pictures = std::mem::take(&mut self.pictures);
        pictures.sort_by_key(|picture| ranking.iter().position(|entry| entry.candidate == picture.candidate));
        pictures.truncate(self.keep);
        pictures
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use futures::FutureExt;

    use super::*;
    use crate::outbox::Outbox;

    const SHAPE: Shape = Shape { cells: 4, given: 0, width: 2, height: 1, scored: true, order: Some(Order::Clip) };
    const SAID: Likelihood = Likelihood { conditional: -3.0, unconditional: None };

    fn picture(value: u8) -> Picture {
        Picture { width: 2, height: 1, rgb8: vec![value; 6].into() }
    }

    fn room() -> Room {
        Outbox::new().room().now_or_never().unwrap()
    }

    fn chunk(candidate: u32, start: u32, tokens: &[u32]) -> TokenChunk {
        TokenChunk { candidate, start, tokens: tokens.to_vec() }
    }

    #[test]
    fn a_candidate_is_complete_when_all_is_known_in_whatever_order() {
        let mut board = Board::new(SHAPE, &[7, 8]);
        board.drew(&chunk(1, 0, &[1, 2, 3, 4]), Instant::now()).unwrap();
        assert!(board.decoded(1, picture(9), room()).unwrap().is_none());
        assert!(board.scored(1, 0.5).unwrap().is_none());
        let complete = board.finished(1, SAID).unwrap().unwrap();
        assert_eq!((complete.seed, complete.clip_score, complete.likelihood), (8, Some(0.5), SAID));
        assert_eq!(complete.image_tokens, [1, 2, 3, 4]);
        assert!(!board.all_finished() && !board.all_decoded() && !board.all_scored());
    }

    #[test]
    fn the_rate_counts_what_was_drawn_and_not_what_was_given() {
        let mut board = Board::new(Shape { given: 2, ..SHAPE }, &[0]);
        let now = Instant::now();
        assert_eq!(board.drew(&chunk(0, 0, &[1, 1]), now).unwrap().tokens_per_second, 0.0);
        let progress = board.drew(&chunk(0, 2, &[1, 1]), now + Duration::from_secs(4)).unwrap();
        assert_eq!((progress.tokens_done, progress.tokens_total, progress.tokens_per_second), (4, 4, 0.5));
    }

    #[test]
    fn what_cannot_be_is_noticed() {
        let mut board = Board::new(SHAPE, &[0]);
        let now = Instant::now();
        assert_eq!(board.drew(&chunk(1, 0, &[1]), now).unwrap_err(), Nonsense::Candidate);
        assert_eq!(board.drew(&chunk(0, 1, &[1]), now).unwrap_err(), Nonsense::Order);
        assert_eq!(board.drew(&chunk(0, 0, &[1; 5]), now).unwrap_err(), Nonsense::Order);
        assert_eq!(board.finished(0, SAID).unwrap_err(), Nonsense::Order);
        let endless = Likelihood { unconditional: Some(f64::NEG_INFINITY), ..SAID };
        assert_eq!(board.finished(0, endless).unwrap_err(), Nonsense::Score);
        let mut gain = Board::new(Shape { order: Some(Order::CaptionGain), ..SHAPE }, &[0]);
        assert_eq!(gain.finished(0, SAID).unwrap_err(), Nonsense::Likelihood);
        assert_eq!(board.scored(0, 0.0).unwrap_err(), Nonsense::Order);
        assert_eq!(board.scored(0, f32::NAN).unwrap_err(), Nonsense::Score);
        let wrong = Picture { width: 3, ..picture(0) };
        assert_eq!(board.decoded(0, wrong, room()).unwrap_err(), Nonsense::Picture);
    }

    fn complete(candidate: u32, score: Option<f64>) -> Complete {
        let (picture, image_tokens) = (picture(0), Vec::new());
        Complete { candidate, seed: 0, picture, clip_score: None, image_tokens, likelihood: SAID, score, room: None }
    }

    fn ranking(candidates: &[u32]) -> Vec<Entry> {
        candidates.iter().map(|&candidate| Entry { candidate, ..Entry::default() }).collect()
    }

    #[test]
    fn the_best_are_kept_and_the_lower_id_wins_a_tie() {
        let mut best = Best::new(2);
        for (candidate, score) in [(3, 0.1), (2, 0.5), (1, 0.5), (0, 0.2)] {
            best.insert(complete(candidate, Some(score)));
        }
        assert_eq!(best.pictures.len(), 2);
        let kept: Vec<u32> = best.take(&ranking(&[1, 2, 0, 3])).iter().map(|picture| picture.candidate).collect();
        assert_eq!(kept, [1, 2]);
    }

    #[test]
    fn all_are_kept_until_the_best_can_be_told() {
        let mut best = Best::new(2);
        (0..4).for_each(|candidate| best.insert(complete(candidate, None)));
        let kept: Vec<u32> = best.take(&ranking(&[2, 0, 3, 1])).iter().map(|picture| picture.candidate).collect();
        assert_eq!(kept, [2, 0]);
    }

    #[test]
    fn the_ranking_is_sorted() {
        let mut board = Board::new(SHAPE, &[0, 1, 2]);
        for (id, score) in [(0, 0.1), (1, 0.7), (2, 0.7)] {
            board.decoded(id, picture(0), room()).unwrap();
            board.scored(id, score).unwrap();
        }
        let order: Vec<u32> = board.ranking().iter().map(|entry| entry.candidate).collect();
        assert_eq!(order, [1, 2, 0]);
    }
}
