//! The grids of one call, as its chunks complete them.

use std::collections::HashMap;

use crate::Error;
use crate::model::Shape;
use crate::pixels::fill;

/// Candidates of a call.
pub(crate) const MAX_CANDIDATES: usize = 4096;
/// Tokens of all candidates of a call.
const MAX_TOKENS: usize = 1 << 22;

/// What a call's chunks have grown so far.
#[derive(Debug)]
pub(crate) struct Grids {
    shape: Shape,
    every_tokens: usize,
    candidates: Vec<Candidate>,
    index: HashMap<u32, usize>,
    incomplete: usize,
}

#[derive(Debug)]
struct Candidate {
    id: u32,
    done: usize,
    // Empty again once the grid is complete.
    tokens: Vec<u32>,
}

/// A grid to be made a picture of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Drawing {
    /// The candidate's id.
    pub(crate) candidate: u32,
    /// Its tokens so far.
    pub(crate) known: usize,
    /// Those, and the rest filled in.
    pub(crate) tokens: Vec<u32>,
    /// All tokens are known.
    pub(crate) complete: bool,
}

impl Grids {
    /// Empty grids for the ids that a header names, with a preview each `every_tokens` (0: none).
    pub(crate) fn new(shape: Shape, ids: &[u32], every_tokens: u32) -> Result<Self, Error> {
        const FIELD: &str = "header.candidates";
        let most = MAX_CANDIDATES.min(MAX_TOKENS / shape.grid.cells()).max(1);
        if ids.is_empty() || ids.len() > most {
            return Err(Error::invalid(FIELD, format!("expected 1 … {most} ids, found {}", ids.len())));
        }
        let index: HashMap<u32, usize> = ids.iter().copied().zip(0..).collect();
        if index.len() != ids.len() {
            let twice = ids.iter().enumerate().find(|(i, id)| index[id] != *i).map_or(0, |(_, id)| *id);
            return Err(Error::invalid(FIELD, format!("{twice} stands there twice")));
        }
        let candidates = ids.iter().map(|id| Candidate { id: *id, done: 0, tokens: Vec::new() }).collect();
        Ok(Self { shape, every_tokens: every_tokens as usize, candidates, index, incomplete: ids.len() })
    }

    /// Whether every candidate has all its tokens.
    pub(crate) fn complete(&self) -> bool {
        self.incomplete == 0
    }

    /// Takes the tokens at `start` … of a candidate, and tells what is to be drawn now.
    pub(crate) fn accept(&mut self, id: u32, start: u32, tokens: &[u32]) -> Result<Option<Drawing>, Error> {
        let (cells, codebook) = (self.shape.grid.cells(), self.shape.codebook);
        let Some(at) = self.index.get(&id) else {
            return Err(Error::invalid("chunk.candidate", format!("{id} is not in the header")));
        };
        let candidate = &mut self.candidates[*at];
        let before = candidate.done;
        if start as usize != before {
            let text = format!("expected {before}, as many as there are of candidate {id}, found {start}");
            return Err(Error::invalid("chunk.start", text));
        }
        if tokens.is_empty() || tokens.len() > cells - before {
            let text = format!("expected 1 … {} of candidate {id}, found {}", cells - before, tokens.len());
            return Err(Error::invalid("chunk.tokens", text));
        }
        if let Some(i) = tokens.iter().position(|token| *token >= codebook) {
            let text = format!("expected 0 … {}, found {}", codebook - 1, tokens[i]);
            return Err(Error::invalid(format!("chunk.tokens[{i}]"), text));
        }
        candidate.tokens.extend_from_slice(tokens);
        candidate.done += tokens.len();
        let known = candidate.done;
        if known == cells {
            self.incomplete -= 1;
            let tokens = std::mem::take(&mut candidate.tokens);
            return Ok(Some(Drawing { candidate: id, known, tokens, complete: true }));
        }
        let due = |done: usize| done.checked_div(self.every_tokens).unwrap_or(0);
        if due(known) == due(before) {
            return Ok(None);
        }
        let tokens = fill(&candidate.tokens, self.shape.grid);
        Ok(Some(Drawing { candidate: id, known, tokens, complete: false }))
    }

    /// The chunks have ended: fails when a candidate lacks tokens.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        let cells = self.shape.grid.cells();
        match self.candidates.iter().find(|candidate| candidate.done < cells) {
            Some(Candidate { id, done, .. }) => {
                Err(Error::invalid("chunk", format!("stream ended with candidate {id} at {done} of {cells} tokens")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use easel_package::{Grid, Size};

    use super::*;

    const SHAPE: Shape =
        Shape { grid: Grid { rows: 2, columns: 2 }, codebook: 10, image: Size { width: 4, height: 4 }, encoder: None };

    fn grids(ids: &[u32], every: u32) -> Grids {
        Grids::new(SHAPE, ids, every).unwrap()
    }

    #[test]
    fn previews_come_when_their_number_of_tokens_is_reached() {
        let mut grids = grids(&[5, 9], 2);
        assert_eq!(grids.accept(9, 0, &[1]).unwrap(), None);
        let preview = grids.accept(9, 1, &[2, 3]).unwrap().unwrap();
        assert_eq!(preview, Drawing { candidate: 9, known: 3, tokens: vec![1, 2, 3, 2], complete: false });
        let whole = grids.accept(9, 3, &[4]).unwrap().unwrap();
        assert_eq!(whole, Drawing { candidate: 9, known: 4, tokens: vec![1, 2, 3, 4], complete: true });
        assert!(!grids.complete());
        assert!(grids.accept(5, 0, &[0, 0, 0, 9]).unwrap().unwrap().complete);
        assert!(grids.complete());
        grids.finish().unwrap();
    }

    #[test]
    fn no_policy_means_no_previews() {
        let mut grids = grids(&[0], 0);
        assert_eq!(grids.accept(0, 0, &[1, 2, 3]).unwrap(), None);
    }

    #[test]
    fn bad_headers_are_refused() {
        let wrong = |ids: &[u32]| Grids::new(SHAPE, ids, 0).unwrap_err().to_string();
        assert_eq!(wrong(&[]), "header.candidates: expected 1 … 4096 ids, found 0");
        assert_eq!(wrong(&[3, 4, 3]), "header.candidates: 3 stands there twice");
        let many: Vec<u32> = (0..4097).collect();
        assert_eq!(wrong(&many), "header.candidates: expected 1 … 4096 ids, found 4097");
        let huge = Shape { grid: Grid { rows: 1024, columns: 1024 }, ..SHAPE };
        let error = Grids::new(huge, &many[..5], 0).unwrap_err().to_string();
        assert_eq!(error, "header.candidates: expected 1 … 4 ids, found 5");
    }

    #[test]
    fn bad_chunks_are_refused_by_field() {
        let mut grids = grids(&[3], 0);
        let mut wrong = |id, start, tokens: &[u32]| grids.accept(id, start, tokens).unwrap_err().to_string();
        assert_eq!(wrong(4, 0, &[1]), "chunk.candidate: 4 is not in the header");
        assert_eq!(wrong(3, 1, &[1]), "chunk.start: expected 0, as many as there are of candidate 3, found 1");
        assert_eq!(wrong(3, 0, &[]), "chunk.tokens: expected 1 … 4 of candidate 3, found 0");
        assert_eq!(wrong(3, 0, &[1; 5]), "chunk.tokens: expected 1 … 4 of candidate 3, found 5");
        assert_eq!(wrong(3, 0, &[1, 10]), "chunk.tokens[1]: expected 0 … 9, found 10");
        grids.accept(3, 0, &[1, 2, 3]).unwrap();
        let end = grids.finish().unwrap_err().to_string();
        assert_eq!(end, "chunk: stream ended with candidate 3 at 3 of 4 tokens");
        grids.accept(3, 3, &[4]).unwrap();
        assert!(grids.accept(3, 4, &[5]).is_err());
    }
}
