//! In which order and groups the rows of a call are computed. Nothing here changes a bit of a result.

use std::ops::Range;

use super::Tokens;
use crate::{
    attend::{Span, TOGETHER},
    pool::Pool,
    store::{Part, WAVE},
};

/// A call's rows are computed wave by wave: first the keys and values of a wave are stored, then its rows read. Where a layer keeps few positions, a wave
/// has at most [`WAVE`] image rows of a slot, so that none overwrites what another still reads. The rows of a wave are sorted by whose text they
/// read and cut into blocks, whose heads are computed together.
///
/// It belongs to a node and is reused from call to call, so that a step allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Plan {
    rows: Vec<Planned>,
    spans: Vec<Span>,
    blocks: Vec<Range<usize>>,
    /// Of each slot, the first image position in the wave.
    begun: Vec<Option<usize>>,
    reads: usize,
}

/// A row of a wave.
#[derive(Debug)]
pub(super) struct Planned {
    /// Its index in the call.
    pub(super) index: usize,
    pub(super) slot: usize,
    text_slot: usize,
    spans: Range<usize>,
}

impl Plan {
    /// The rows of the wave that begins with row `start`.
    pub(super) fn wave(&mut self, pool: &Pool, layer: usize, tokens: &Tokens<'_>, start: usize) -> Range<usize> {
        if pool.layout().keeps_all(layer) {
            return start..tokens.len();
        }
        self.begun.clear();
        self.begun.resize(pool.sequences(), None);
        let fits = |row: &usize| {
            let (slot, position) = tokens.at(*row);
            let (part, position) = pool.layout().part(position);
            part == Part::Text || position - *self.begun[slot].get_or_insert(position) < WAVE
        };
        start..start + (start..tokens.len()).take_while(fits).count()
    }

    /// Plans a wave. `seen` gives the positions that (slot, position) sees, rising; `shared` query heads share a key.
    pub(super) fn make<R: Iterator<Item = Range<usize>>>(
        &mut self,
        pool: &Pool,
        layer: usize,
        (tokens, wave): (&Tokens<'_>, Range<usize>),
        shared: usize,
        seen: impl Fn(usize, usize) -> R,
    ) {
        self.rows.clear();
        self.spans.clear();
        for index in wave {
            let (slot, position) = tokens.at(index);
            let begin = self.spans.len();
            for run in seen(slot, position) {
                pool.layout().push(layer, run, begin, &mut self.spans);
            }
            let (text_slot, spans) = (pool.text_slot(slot), begin..self.spans.len());
            self.rows.push(Planned { index, slot, text_slot, spans });
        }
        self.reads = self.spans.iter().map(|span| span.length).sum::<usize>() * shared;
        self.rows.sort_unstable_by_key(|row| (row.text_slot, row.index));
        self.blocks.clear();
        let mut start = 0;
        for rows in self.rows.chunk_by(|a, b| a.text_slot == b.text_slot) {
            let end = start + rows.len() * shared;
            self.blocks.extend((start..end).step_by(TOGETHER).map(|block| block..end.min(block + TOGETHER)));
            start = end;
        }
    }

    /// Positions that all query heads which share a key read.
    pub(super) fn reads(&self) -> usize {
        self.reads
    }

    /// Ranges of (row, query head that shares a key), counted through the rows of the wave.
    pub(super) fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// A row of the wave and what it sees.
    pub(super) fn row(&self, i: usize) -> (&Planned, &[Span]) {
        let row = &self.rows[i];
        (row, &self.spans[row.spans.clone()])
    }
}
