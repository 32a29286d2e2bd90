//! From logits to a token: guidance, temperature, top-k, top-p, the draw. No randomness of its own.

use easel_package::Ties;

/// How a token is drawn; the meaning and bounds of each field are those of `easel.v1.SamplingParameters`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Divides the logits; 0 is greedy.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the smallest set of tokens whose probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// u + s·(c − u); used by [`guide`].
    pub guidance_scale: f32,
}

/// Logits from which nothing can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One of them is NaN or +∞.
    #[error("the logit of token {token} is not finite")]
    NotFinite {
        /// The first such token.
        token: u32,
    },
    /// There are none, or all are −∞.
    #[error("no token has a finite logit")]
    Empty,
}

/// Classifier-free guidance: `out` becomes u + s·(c − u) for each token.
pub fn guide(conditional: &[f32], unconditional: &[f32], scale: f32, out: &mut Vec<f32>) {
    out.clear();
    out.extend(conditional.iter().zip(unconditional).map(|(c, u)| u + scale * (c - u)));
}

/// ln p(token) under softmax(logits). The logits must be such as [`Picker::draw`] accepts.
pub fn log_likelihood(logits: &[f32], token: u32) -> f64 {
    let max = maximum(logits);
    let (mut weights, mut sum) = ([0f32; 256], 0.0);
    for block in logits.chunks(weights.len()) {
        weights.iter_mut().zip(block).for_each(|(weight, z)| *weight = exp(z - max));
        sum += total(&weights[..block.len()]);
    }
    f64::from(logits[token as usize] - max) - sum.ln()
}

/// Draws tokens; keeps its buffers from one draw to the next.
#[derive(Debug, Default)]
pub struct Picker {
    ties: Ties,
    /// Of all tokens, where all are needed.
    weights: Vec<f32>,
    keys: Vec<u64>,
    /// The tokens that the filters keep, by rising id, and their weights.
    kept: Vec<u32>,
    kept_weights: Vec<f32>,
}

impl Picker {
    /// One whose top-k treats equals so; by default they are cut.
    pub fn with_ties(ties: Ties) -> Self {
        Self { ties, ..Self::default() }
    }

    /// The token that `uniform` (0 ≤ u < 1) falls on: logits / T → top-k → top-p → softmax → inverse CDF over the tokens that are left, by rising id.
    ///
    /// Among equal logits the lower id counts as the more likely. At T = 0 and at k = 1 it is the most likely token.
    ///
    /// # Errors
    /// A logit is NaN or +∞, or all are −∞.
    pub fn draw(&mut self, logits: &[f32], parameters: &Parameters, uniform: f64) -> Result<u32, Error> {
        let best = arg_max(logits)?;
        if parameters.temperature == 0.0 || parameters.top_k == 1 {
            return Ok(best);
        }
        let max = logits[best as usize];
        // The difference first: z / T alone may overflow.
        let weigh = |&z: &f32| exp((z - max) / parameters.temperature);
        let k = match parameters.top_k as usize {
            0 => logits.len(),
            k => k.min(logits.len()),
        };
        let nucleus = parameters.top_p < 1.0;
        if nucleus || k == logits.len() {
            self.weights.clear();
            self.weights.extend(logits.iter().map(weigh));
        }
        if k == logits.len() && !nucleus {
            return Ok(invert(&self.weights, uniform) as u32);
        }
        self.most_likely(logits, k);
        if nucleus {
            let count = smallest_set(&mut self.keys, f64::from(parameters.top_p), &self.weights);
            self.keys.truncate(count);
        }
        self.kept.clear();
        self.kept.extend(self.keys.iter().map(|&key| id(key) as u32));
        self.kept.sort_unstable();
        self.kept_weights.clear();
        self.kept_weights.extend(self.kept.iter().map(|&id| weigh(&logits[id as usize])));
        Ok(self.kept[invert(&self.kept_weights, uniform)])
    }

    /// Leaves the keys of the `k` most likely tokens, and where ties are kept of those as likely as the last of them, in no order.
    fn most_likely(&mut self, logits: &[f32], k: usize) {
        self.keys.clear();
        self.keys.extend(logits.iter().zip(0..).map(|(&z, id)| key(z, id)));
        if k == logits.len() {
            return;
        }
        let (_, &mut last, _) = self.keys.select_nth_unstable(k - 1);
        match self.ties {
            Ties::Cut => self.keys.truncate(k),
            Ties::Kept => self.keys.retain(|key| key >> 32 <= last >> 32),
        }
    }
}

/// The index of the weight in which the share `uniform` of their sum lies.
fn invert(weights: &[f32], uniform: f64) -> usize {
    let target = uniform * total(weights);
    let mut sum = 0.0;
    for (index, &weight) in weights.iter().enumerate() {
        sum += f64::from(weight);
        if sum > target {
            return index;
        }
    }
    // Rounding can leave the target at the very sum.
    weights.iter().rposition(|&weight| weight > 0.0).expect("the most likely token has weight 1")
}

fn total(weights: &[f32]) -> f64 {
    let (blocks, rest) = weights.as_chunks::<16>();
    let mut lanes = [0f64; 16];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, &weight)| *lane += f64::from(weight));
    }
    lanes.iter().sum::<f64>() + rest.iter().copied().map(f64::from).sum::<f64>()
}

/// The largest logit; NaN never is.
fn maximum(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (blocks, rest) = logits.as_chunks::<16>();
    let mut lanes = [f32::NEG_INFINITY; 16];
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, &z)| *lane = larger(*lane, z));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(f32::NEG_INFINITY, larger)
}

/// The token with the largest logit, the lowest id among equals.
fn arg_max(logits: &[f32]) -> Result<u32, Error> {
    let wrong = |z: &f32| z.is_nan() || *z == f32::INFINITY;
    // All of them in the usual case: without an early way out it becomes vector code.
    if logits.iter().fold(false, |found, z| found | wrong(z)) {
        let token = logits.iter().position(wrong).unwrap_or_default() as u32;
        return Err(Error::NotFinite { token });
    }
    let max = maximum(logits);
    if max == f32::NEG_INFINITY {
        return Err(Error::Empty);
    }
    let best = logits.iter().position(|&z| z == max);
    Ok(best.expect("the maximum is one of the logits") as u32)
}

/// An integer that sorts tokens by falling logit, then by rising id.
fn key(logit: f32, id: u32) -> u64 {
    // −0 and 0 tie.
    let bits = (logit + 0.0).to_bits();
    let rising = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(!rising) << 32 | u64::from(id)
}

fn id(key: u64) -> usize {
    key as u32 as usize
}

/// How many of `keys` the smallest set has whose weight reaches the share `p` of all; moves them to the front.
fn smallest_set(keys: &mut [u64], p: f64, weights: &[f32]) -> usize {
    let weight = |&key: &u64| f64::from(weights[id(key)]);
    let target = p * keys.iter().map(weight).sum::<f64>();
    let (mut sorted, mut block, mut sum) = (0, 64, 0.0);
    // Sorts no more than the set needs: a block, then one twice as large, …
    while sorted < keys.len() {
        let end = keys.len().min(sorted + block);
        if end < keys.len() {
            keys[sorted..].select_nth_unstable(end - sorted - 1);
        }
        keys[sorted..end].sort_unstable();
        for (index, key) in keys.iter().enumerate().take(end).skip(sorted) {
            sum += weight(key);
            if sum >= target {
                return index + 1;
            }
        }
        (sorted, block) = (end, 2 * block);
    }
    keys.len()
}

/// eˣ for x ≤ 0, to 2 ulp; 0 below −87. Cephes' `expf`, without a branch, so that loops over it become vector code; the same bits on every machine.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it leaves the integer part in the low bits
    let clamped = if x > -87.0 { x } else { -87.0 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    let value = (p * r * r + r + 1.0) * scale;
    let mask = if x < -87.0 { 0 } else { u32::MAX };
    f32::from_bits(value.to_bits() & mask)
}

#[cfg(test)]
mod tests;
