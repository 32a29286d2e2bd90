//! The rows of one step, and who they belong to.

use super::run::Logits;
use crate::model::Row;

/// Who fed tokens into a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Feed {
    /// Index of the request among the active ones.
    pub(super) job: usize,
    /// Index of the candidate among the request's running ones; none: the prefix.
    pub(super) run: Option<usize>,
    /// Positions of each sequence.
    pub(super) count: usize,
    /// Of these, guesses at the end.
    pub(super) guessed: usize,
    /// Index of its first logits; none: more of its known tokens must be fed before they matter.
    logits: Option<usize>,
    guided: bool,
}

/// Tokens of a sequence that are known, and where the first of them lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) slot: usize,
    pub(super) position: usize,
    pub(super) tokens: &'a [u32],
    /// How many of them, at the end, are guesses: logits are asked for behind each, and behind the one before the first.
    pub(super) guessed: usize,
}

impl Known<'_> {
    fn end(&self) -> usize {
        self.position + self.tokens.len()
    }
}

/// The rows of one step. A sequence whose next tokens are known (a prefix, given tokens) feeds many of them at once, up to a budget for all, so that
/// a long prefill does not hold the others up for long; each sequence feeds at least one.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    pub(super) feeds: Vec<Feed>,
    asked: usize,
    budget: usize,
}

impl Batch {
    /// An empty batch for about `budget` rows.
    pub(super) fn clear(&mut self, budget: usize) {
        self.rows.clear();
        self.feeds.clear();
        self.asked = 0;
        self.budget = budget;
    }

    /// Adds the tokens from `position` on of a sequence and, under guidance, of the unconditional one, which may begin later or earlier and ends at the same
    /// position.
    pub(super) fn feed(
        &mut self,
        (job, run): (usize, Option<usize>),
        position: usize,
        conditional: Known<'_>,
        unconditional: Option<Known<'_>>,
    ) {
        let sequences = 1 + usize::from(unconditional.is_some());
        let (known, room) = (conditional.end() - position, (self.budget / sequences).max(1));
        // Guesses are for steps with room to spare.
        let guessed = if known > room { 0 } else { conditional.guessed };
        let known = known + guessed - conditional.guessed;
        let count = known.min(room);
        self.budget = self.budget.saturating_sub(count * sequences);
        let complete = count == known;
        let end = position + count;
        for Known { slot, position: first, tokens, .. } in [Some(conditional), unconditional].into_iter().flatten() {
            let begin = position.max(first).min(end);
            let tokens = &tokens[begin - first.min(begin)..end.saturating_sub(first)];
            self.rows.extend((begin..).zip(tokens).map(|(position, &token)| {
                let logits = complete && position + 1 + guessed >= end;
                Row { slot, token, position: position as u32, logits }
            }));
        }
        let logits = complete.then_some(self.asked);
        self.asked += if complete { sequences * (1 + guessed) } else { 0 };
        self.feeds.push(Feed { job, run, count, guessed, logits, guided: unconditional.is_some() });
    }

    /// Rows that ask for logits.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }
}

impl Feed {
    /// Its part of a step's `logits`, if it asked for any: behind its last known token, then behind each guess.
    pub(super) fn logits<'a>(&self, logits: &'a [f32], codebook: usize) -> Vec<Logits<'a>> {
        let of = |row: usize| &logits[row * codebook..(row + 1) * codebook];
        let each = 1 + self.guessed;
        let at = |row: usize| Logits { conditional: of(row), unconditional: self.guided.then(|| of(row + each)) };
        self.logits.map_or_else(Vec::new, |first| (first..first + each).map(at).collect())
    }
}
