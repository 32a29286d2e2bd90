//! Steps, prefill and draws, without the engine.

use std::time::Instant;

use easel_onnx::{Prefix, Row, Transformer};
use easel_package::Manifest;
use serde::Serialize;

use super::{Error, Plan, median, ms, resident_bytes};
use crate::{
    logits::{Parameters, Picker},
    model::Geometry,
};

/// Tokens of a picture that is measured: whichever, but not all the same.
const STRIDE: u32 = 769;
const PREFILLS: usize = 3;
const DRAWS: usize = 64;

/// A batch at a position.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Sequences, one row each.
    pub batch: usize,
    /// Of the last of the steps that were timed; at the start of a picture of the first.
    pub position: u32,
    /// The median.
    pub ms: f64,
    /// The fastest.
    pub least_ms: f64,
}

/// A whole picture of each sequence of a batch: the prefill, and for each image position the time between those measured, taken from the line between them.
#[derive(Clone, Debug, Serialize)]
pub struct Whole {
    /// Pictures drawn at once.
    pub batch: usize,
    /// All of it.
    pub ms: f64,
    /// Image tokens of all pictures.
    pub tokens_per_second: f64,
}

impl Whole {
    /// From the steps of one batch, by rising position; before the first and behind the last of them time stands still. The first image token comes of the prefill.
    pub(super) fn of(steps: &[Step], geometry: Geometry, batch: usize, prefill_ms: f64) -> Self {
        let at = |position: u32| -> f64 {
            let next = steps.partition_point(|step| step.position < position);
            match (next.checked_sub(1).map(|i| &steps[i]), steps.get(next)) {
                (Some(a), Some(b)) => {
                    let share = f64::from(position - a.position) / f64::from(b.position - a.position);
                    a.ms + share * (b.ms - a.ms)
                }
                (Some(step), None) | (None, Some(step)) => step.ms,
                (None, None) => 0.0,
            }
        };
        let first = geometry.text_length as u32;
        let stepping: f64 = (first..first + geometry.cells as u32 - 1).map(at).sum();
        let ms = prefill_ms + stepping;
        Self { batch, ms, tokens_per_second: (batch * geometry.cells) as f64 / ms * 1e3 }
    }
}

/// A transformer with slots for sequences, 0 … most − 1, and for their captions behind them.
pub(super) struct Bench {
    transformer: Transformer,
    geometry: Geometry,
    caption: Vec<u32>,
    most: usize,
    steps: usize,
    own_captions: bool,
    kv: Option<(usize, u64)>,
}

impl Bench {
    pub(super) fn new(transformer: Transformer, manifest: &Manifest, plan: &Plan, most: usize) -> Self {
        let (geometry, caption) = (Geometry::of(manifest), manifest.text.pad(&[]));
        Self { transformer, geometry, caption, most, steps: plan.steps, own_captions: plan.own_captions, kv: None }
    }

    pub(super) fn into_transformer(self) -> Transformer {
        self.transformer
    }

    /// What the process grew by for each sequence of the largest batch.
    pub(super) fn kv_resident_bytes(&self) -> Option<u64> {
        self.kv.map(|(batch, bytes)| bytes / batch as u64)
    }

    /// The rows of a caption in `slot`, the last of which asks for logits.
    fn caption(&self, slot: usize) -> Vec<Row> {
        let end = self.geometry.text_length;
        let positions = end - self.caption.len()..end;
        let row = |(position, &token): (usize, &u32)| Row {
            slot,
            token,
            position: position as u32,
            logits: position + 1 == end,
        };
        positions.zip(&self.caption).map(row).collect()
    }

    /// Computes a caption; the median time.
    pub(super) fn prefill(&mut self) -> Result<f64, Error> {
        let rows = self.caption(self.most);
        let mut times = Vec::new();
        for _ in 0..PREFILLS {
            self.transformer.begin(self.most, None)?;
            let started = Instant::now();
            self.transformer.step(&rows)?;
            times.push(ms(started));
        }
        Ok(median(&mut times))
    }

    /// Draws from a row's logits at temperature 1 among the 256 most likely; the median time.
    pub(super) fn draw(&mut self) -> Result<f64, Error> {
        let (slot, position) = (self.most, self.geometry.text_length as u32);
        let logits = self.transformer.step(&[Row { slot, token: 0, position, logits: true }])?;
        let parameters = Parameters { temperature: 1.0, top_k: 256, top_p: 1.0, guidance_scale: 1.0 };
        let (mut picker, mut times) = (Picker::default(), Vec::new());
        for i in 0..DRAWS {
            let started = Instant::now();
            picker.draw(logits, &parameters, i as f64 / DRAWS as f64)?;
            times.push(ms(started));
        }
        Ok(median(&mut times))
    }

    /// Steps of `batch` sequences at these positions, which rise.
    pub(super) fn batch(&mut self, batch: usize, positions: &[u32]) -> Result<Vec<Step>, Error> {
        let text = self.geometry.text_length as u32;
        let before = resident_bytes();
        for slot in 0..batch {
            let owner = self.most + if self.own_captions { slot } else { 0 };
            if slot == 0 || self.own_captions {
                self.transformer.begin(owner, None)?;
                let first = text - self.caption.len() as u32;
                self.transformer.fill(owner, first..text)?;
            }
            self.transformer.begin(slot, Some(Prefix { slot: owner, length: text }))?;
        }
        let (mut next, mut steps) = (text, Vec::new());
        for &position in positions {
            // The position is that of the last step, or of the first where a sequence's beginning leaves no others.
            let (steps_each, end) = (self.steps as u32, text + self.geometry.cells as u32);
            let last = position.max(next).min(end - 1);
            let first = (last + 1).saturating_sub(steps_each).max(next);
            let last = (first + steps_each.max(1) - 1).min(end - 1);
            for slot in 0..batch {
                self.transformer.fill(slot, next..first)?;
            }
            steps.extend(self.steps(batch, first..last + 1)?.map(|(ms, least_ms)| Step {
                batch,
                position,
                ms,
                least_ms,
            }));
            next = last + 1;
        }
        if self.kv.is_none_or(|(most, _)| batch > most) {
            self.kv = Some((batch, resident_bytes().saturating_sub(before)));
        }
        Ok(steps)
    }

    fn steps(&mut self, batch: usize, positions: std::ops::Range<u32>) -> Result<Option<(f64, f64)>, Error> {
        let mut times = Vec::new();
        let codebook = self.geometry.codebook as u32;
        for position in positions {
            let token = |slot: usize| (slot as u32 + 1).wrapping_mul(position).wrapping_mul(STRIDE) % codebook;
            let rows = (0..batch).map(|slot| Row { slot, token: token(slot), position, logits: true });
            let rows: Vec<Row> = rows.collect();
            let started = Instant::now();
            self.transformer.step(&rows)?;
            times.push(ms(started));
        }
        let median = median(&mut times);
        Ok(times.first().map(|least| (median, *least)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_picture_is_the_prefill_and_every_step_but_the_first() {
        let geometry = Geometry { text_length: 4, cells: 9, codebook: 2 };
        let step = |position, ms| Step { batch: 2, position, ms, least_ms: ms };
        let whole = Whole::of(&[step(4, 1.0), step(8, 5.0)], geometry, 2, 100.0);
        // Steps at 4 … 11: 1, 2, 3, 4, 5, and 5 three times.
        assert_eq!(whole.ms, 130.0);
        assert!((whole.tokens_per_second - 18.0 / 0.13).abs() < 1e-9, "{}", whole.tokens_per_second);
    }
}
