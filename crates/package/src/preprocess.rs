//! Pillow's bicubic resize and a centre crop, equal to Pillow's to the last bit (`src/libImaging/Resample.c`), because models are trained behind it.
//!
//! The passes run as in Pillow 3.3 … 12: horizontal, then vertical. Pillow 13 swaps them where a picture loses much more height than width.

use std::ops::Range;

use crate::{Error, Preprocess};

/// Fraction bits of the fixed-point weights: 8 bits of pixel and 2 of head room are left in 32.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Half the width of the bicubic kernel, in pixels of the coarser side.
const SUPPORT: f64 = 2.0;

impl Preprocess {
    /// The picture as the graph wants it: height × width × 3 bytes of [`Preprocess::size`].
    ///
    /// `rgb8` has `height` × `width` × 3 bytes. The picture is scaled, its shape kept, to the smallest size that covers the target (for a square
    /// target: short side to size, long side to ⌊size · long / short⌋, as torchvision does), then the centre is cut out, offsets rounded half to
    /// even. A picture that has the size already is returned as it is. What the crop drops is never computed, so the work is bounded by the size of the input.
    ///
    /// # Errors
    /// [`Error::Picture`] when a side is zero or `rgb8` has another length.
    pub fn apply(&self, width: u32, height: u32, rgb8: &[u8]) -> Result<Vec<u8>, Error> {
        let fail = |expected: String, found: String| Err(Error::Picture { expected, found });
        if width == 0 || height == 0 || self.size.width == 0 || self.size.height == 0 {
            return fail("at least 1 × 1 pixels".into(), format!("{width} × {height}"));
        }
        let bytes = u128::from(width) * u128::from(height) * 3;
        if rgb8.len() as u128 != bytes {
            return fail(format!("{bytes} bytes for {width} × {height} pixels"), format!("{} bytes", rgb8.len()));
        }
        let target = self.size;
        if (width, height) == (target.width, target.height) {
            return Ok(rgb8.to_vec());
        }
        let scaled = cover((width, height), (target.width, target.height));
        let across = axis(width as usize, scaled.0, target.width as usize);
        let down = axis(height as usize, scaled.1, target.height as usize);
        let rows = rows_needed(&down);
        let pixels = horizontal(rgb8, width as usize, rows.clone(), &across);
        Ok(vertical(&pixels, target.width as usize * 3, rows.start, &down))
    }
}

/// The smallest size of the picture's shape that covers the target, rounded down.
fn cover(from: (u32, u32), to: (u32, u32)) -> (usize, usize) {
    let (w, h) = (from.0 as usize, from.1 as usize);
    let (tw, th) = (to.0 as usize, to.1 as usize);
    if w * th <= h * tw { (tw, tw * h / w) } else { (th * w / h, th) }
}

/// What one output pixel of an axis is made of: input pixels `first` … with fixed-point weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// The taps of the centre `target` of `scaled` output pixels.
fn axis(input: usize, scaled: usize, target: usize) -> Vec<Taps> {
    let start = half_to_even(scaled - target);
    let outputs = start..start + target;
    if input == scaled {
        // Pillow leaves an axis out that keeps its size.
        return outputs.map(|i| Taps { first: i, weights: vec![1 << PRECISION_BITS] }).collect();
    }
    outputs.map(|i| taps(input, scaled, i)).collect()
}

/// `n` / 2, a half rounded to the even neighbour, as Python's `round` does.
fn half_to_even(n: usize) -> usize {
    let half = n / 2;
    half + (n % 2) * (half % 2)
}

/// `precompute_coeffs` and `normalize_coeffs_8bpc` of `Resample.c`, in their order of operations.
fn taps(input: usize, scaled: usize, output: usize) -> Taps {
    let scale = input as f64 / scaled as f64;
    let filter_scale = scale.max(1.0);
    let support = SUPPORT * filter_scale;
    let center = (output as f64 + 0.5) * scale;
    let step = 1.0 / filter_scale;
    // Casts saturate at 0, where Pillow clamps.
    let first = (center - support + 0.5) as usize;
    let end = ((center + support + 0.5) as usize).min(input);
    let exact: Vec<f64> = (0..end - first).map(|x| bicubic(((x + first) as f64 - center + 0.5) * step)).collect();
    let sum: f64 = exact.iter().fold(0.0, |sum, w| sum + w);
    let weights = exact.iter().map(|w| if sum == 0.0 { *w } else { w / sum }).map(fixed).collect();
    Taps { first, weights }
}

/// A weight with [`PRECISION_BITS`] fraction bits, rounded half away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// Keys's cubic convolution kernel with a = −½.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The input rows that any of the output rows is made of.
fn rows_needed(down: &[Taps]) -> Range<usize> {
    let first = down.iter().map(|t| t.first).min().unwrap_or(0);
    let end = down.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0);
    first..end
}

/// A sum of weighted pixels, rounded and clamped to 8 bits.
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Resizes `rows` of the picture along x.
fn horizontal(rgb8: &[u8], width: usize, rows: Range<usize>, across: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * across.len() * 3);
    for row in rgb8[rows.start * width * 3..rows.end * width * 3].chunks_exact(width * 3) {
        for taps in across {
            let mut sum = [1 << (PRECISION_BITS - 1); 3];
            for (pixel, weight) in row[taps.first * 3..].chunks_exact(3).zip(&taps.weights) {
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sum.map(clip));
        }
    }
    out
}

/// Resizes along y. `pixels` has rows of `stride` bytes, the first of which is the picture's row `first_row`.
fn vertical(pixels: &[u8], stride: usize, first_row: usize, down: &[Taps]) -> Vec<u8> {
    let mut out = Vec::with_capacity(down.len() * stride);
    let mut sums = vec![0; stride];
    for taps in down {
        sums.fill(1 << (PRECISION_BITS - 1));
        let rows = pixels[(taps.first - first_row) * stride..].chunks_exact(stride);
        for (row, weight) in rows.zip(&taps.weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        out.extend(sums.iter().map(|sum| clip(*sum)));
    }
    out
}
