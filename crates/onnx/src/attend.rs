//! What one head of one token reads: softmax(scale · q·K) V over the positions that it sees.
//!
//! Every sum has one order, given by the list of positions alone: dot products and the sum of the exponentials run in [`LANES`] lanes that are
//! added at the end as a tree, values are added position by position. So a result has the same bits whatever the batch, the number of threads, the
//! width of the machine's registers, and whether a position came by prefill, by a step, or from another slot. No multiplication is fused with an
//! addition, for the same reason.

use std::ops::Range;

use crate::{mask::Runs, pool::Head};

/// Sums run in this many lanes; storage is padded to it. Eight f32 are an AVX2 register.
pub(crate) const LANES: usize = 8;

type Lanes = [f32; LANES];

/// The positions that a token sees: text `first` … `text` − 1, then image runs, counted from `image_start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) first: usize,
    pub(crate) text: usize,
    pub(crate) image_start: usize,
    pub(crate) image: Runs,
}

impl Seen {
    /// How many positions.
    pub(crate) fn positions(self) -> usize {
        self.text - self.first + self.image.positions()
    }

    #[inline(always)]
    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let image = self.image.ranges().map(move |run| run.start + self.image_start..run.end + self.image_start);
        std::iter::once(self.first..self.text).chain(image)
    }
}

/// Memory that calls reuse.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    query: Vec<Lanes>,
    weights: Vec<f32>,
    context: Vec<Lanes>,
}

/// Writes the context \[head_width\] of `query` \[head_width\].
pub(crate) fn attend(
    query: &[f32],
    scale: f32,
    seen: Seen,
    head: &Head<'_>,
    scratch: &mut Scratch,
    context: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the machine has AVX2.
        return unsafe { attend_avx2(query, scale, seen, head, scratch, context) };
    }
    attend_with::<Lanes>(query, scale, seen, head, scratch, context);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn attend_avx2(query: &[f32], scale: f32, seen: Seen, head: &Head<'_>, scratch: &mut Scratch, context: &mut [f32]) {
    attend_with::<std::arch::x86_64::__m256>(query, scale, seen, head, scratch, context);
}

#[inline(always)]
fn attend_with<V: Vector>(
    query: &[f32],
    scale: f32,
    seen: Seen,
    head: &Head<'_>,
    scratch: &mut Scratch,
    context: &mut [f32],
) {
    let width = query.len().div_ceil(LANES);
    fill(&mut scratch.query, width, [0.0; LANES]);
    for (padded, q) in scratch.query.as_flattened_mut().iter_mut().zip(query) {
        *padded = q * scale;
    }
    fill(&mut scratch.weights, seen.positions().next_multiple_of(LANES), f32::NEG_INFINITY);
    scores::<V>(&scratch.query, seen, head, &mut scratch.weights);
    let sum = exponentials(&mut scratch.weights);
    fill(&mut scratch.context, width, [0.0; LANES]);
    mix::<V>(&scratch.weights, seen, head, &mut scratch.context);
    let inverse = 1.0 / sum;
    for (out, c) in context.iter_mut().zip(scratch.context.as_flattened()) {
        *out = c * inverse;
    }
}

#[inline(always)]
fn fill<T: Clone>(buffer: &mut Vec<T>, length: usize, value: T) {
    buffer.clear();
    buffer.resize(length, value);
}

/// What of a range of positions is read from the prefix, then from the sequence's own storage: planes \[positions, padded width\].
#[inline(always)]
fn pick<'a>(planes: [&'a [f32]; 2], range: Range<usize>, prefix_length: usize, width: usize) -> [&'a [Lanes]; 2] {
    let middle = prefix_length.clamp(range.start, range.end);
    let lanes = |plane: &'a [f32], range: Range<usize>| &plane.as_chunks().0[range.start * width..range.end * width];
    [lanes(planes[0], range.start..middle), lanes(planes[1], middle..range.end)]
}

/// query · key for every position seen, in order.
#[inline(always)]
fn scores<V: Vector>(query: &[Lanes], seen: Seen, head: &Head<'_>, scores: &mut [f32]) {
    let mut scores = scores.iter_mut();
    for range in seen.ranges() {
        for keys in pick([head.prefix.keys, head.own.keys], range, head.prefix_length, query.len()) {
            for (key, score) in keys.chunks_exact(query.len()).zip(&mut scores) {
                *score = dot::<V>(query, key);
            }
        }
    }
}

#[inline(always)]
fn dot<V: Vector>(a: &[Lanes], b: &[Lanes]) -> f32 {
    let sums = a.iter().zip(b).fold(V::splat(0.0), |sums, (a, b)| sums.add(V::load(a).mul(V::load(b))));
    total(sums.store())
}

#[inline(always)]
fn total(s: Lanes) -> f32 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// Turns scores into e^(score − highest) and gives their sum. The length is a multiple of [`LANES`].
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> f32 {
    let mut highest: Lanes = [f32::NEG_INFINITY; LANES];
    for chunk in scores.chunks_exact(LANES) {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
        }
    }
    let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums: Lanes = [0.0; LANES];
    for chunk in scores.chunks_exact_mut(LANES) {
        for lane in 0..LANES {
            chunk[lane] = exponential(chunk[lane] - highest);
            sums[lane] += chunk[lane];
        }
    }
    total(sums)
}

/// e^x for x ≤ 0 within 2 units in the last place, without a branch; below −87, where it could only be denormal, e^−87. NaN stays NaN.
///
/// Cephes' expf: e^x = 2^n · e^r with n the nearest integer to x / ln 2, and a polynomial for e^r.
#[inline(always)]
fn exponential(x: f32) -> f32 {
    /// Adding it leaves an integer in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + c;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    (p * (r * r) + r + 1.0) * power
}

/// Adds weight · value, position by position.
#[inline(always)]
fn mix<V: Vector>(weights: &[f32], seen: Seen, head: &Head<'_>, context: &mut [Lanes]) {
    let mut weights = weights.iter();
    for range in seen.ranges() {
        for values in pick([head.prefix.values, head.own.values], range, head.prefix_length, context.len()) {
            for (value, weight) in values.chunks_exact(context.len()).zip(&mut weights) {
                let weight = V::splat(*weight);
                for (sum, value) in context.iter_mut().zip(value) {
                    *sum = V::load(sum).add(weight.mul(V::load(value))).store();
                }
            }
        }
    }
}

/// Eight lanes: numbers that the compiler may place as it likes, or a register.
trait Vector: Copy {
    fn splat(x: f32) -> Self;
    fn load(x: &Lanes) -> Self;
    fn store(self) -> Lanes;
    fn add(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
}

impl Vector for Lanes {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(x: &Lanes) -> Self {
        *x
    }

    #[inline(always)]
    fn store(self) -> Lanes {
        self
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] + other[lane])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|lane| self[lane] * other[lane])
    }
}

/// Only [`attend_avx2`] makes one, which is called where AVX2 is: that is what makes its intrinsics safe.
#[cfg(target_arch = "x86_64")]
impl Vector for std::arch::x86_64::__m256 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see the impl.
        unsafe { std::arch::x86_64::_mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(x: &Lanes) -> Self {
        // SAFETY: see the impl; the array has as many numbers as the register.
        unsafe { std::arch::x86_64::_mm256_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self) -> Lanes {
        let mut lanes = [0.0; LANES];
        // SAFETY: see the impl; the array has as many numbers as the register.
        unsafe { std::arch::x86_64::_mm256_storeu_ps(lanes.as_mut_ptr(), self) };
        lanes
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { std::arch::x86_64::_mm256_add_ps(self, other) }
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        // SAFETY: see the impl.
        unsafe { std::arch::x86_64::_mm256_mul_ps(self, other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mask::Mask, pool::Planes, test::Random};

    /// Distance in units of the last place.
    fn ulp(found: f32, exact: f64) -> f64 {
        let nearest = exact as f32;
        let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(found) - exact).abs() / unit
    }

    #[test]
    fn the_exponential_is_close_and_rises() {
        assert_eq!(exponential(0.0), 1.0);
        assert!(exponential(f32::NEG_INFINITY) < 2e-38);
        assert!(exponential(f32::NAN).is_nan());
        let numbers =
            (0..2_000_000).map(|i| -87.0 * i as f32 / 2e6).chain((0..2_000_000).map(|i| -1e-3 * i as f32 / 2e6));
        let worst = numbers.map(|x| ulp(exponential(x), f64::from(x).exp())).fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst}");
        let near = (0..1_000_000).map(|i| exponential(-f32::from_bits(0x3000_0000 + i * 256)));
        assert!(near.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn every_build_gives_the_same_bits() {
        if !std::arch::is_x86_feature_detected!("avx2") {
            return;
        }
        let mut random = Random(7);
        for width in [1, 5, 8, 31, 48, 64] {
            let padded = usize::next_multiple_of(width, LANES);
            let mut plane = || (0..80 * padded).map(|_| random.normal()).collect::<Vec<f32>>();
            let (keys, values, query) = (plane(), plane(), plane());
            let own = Planes { keys: &keys, values: &values };
            let head = Head { prefix_length: 0, prefix: own, own };
            let seen = Seen { first: 3, text: 16, image_start: 16, image: Mask::Convolution(5).runs(8, 63) };
            let mut contexts = [vec![0.0; width], vec![0.0; width]];
            let [any, avx2] = &mut contexts;
            attend_with::<Lanes>(&query[..width], 0.3, seen, &head, &mut Scratch::default(), any);
            // SAFETY: the machine has AVX2.
            unsafe { attend_avx2(&query[..width], 0.3, seen, &head, &mut Scratch::default(), avx2) };
            assert!(any.iter().zip(avx2).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}
