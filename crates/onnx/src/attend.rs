//! What one head of one token reads: softmax(scale · q·K) V over the positions that it sees.
//!
//! Every sum has one order, given by the list of positions alone: dot products and the sum of the exponentials run in [`LANES`] lanes that are
//! added at the end as a tree, values are added position by position. So a result has the same bits whatever the batch, the number of threads, the
//! machine's registers, who it is computed together with, and whether a position came by prefill, by a step, or from another slot.
//!
//! Four heads that read the same positions (those of candidates of one caption, of neighbours in a prefill, or with shared keys) read them together: a key
//! is fetched once for four queries. Each sum is made as it would be alone.
#![allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers go by one index, and are only kept in registers where the compiler sees it"
)]

use crate::vector::{LANES, Lanes, Number, Vector, total};

/// Heads that are computed together.
pub(crate) const TOGETHER: usize = 4;

/// Positions whose values are mixed before the next lanes' are, so that they stay in the nearest cache.
const TILE: usize = 64;

/// How far ahead of what is read memory is asked for: a reader's keys and values lie behind one another, but on a page after the other.
const AHEAD: usize = 2048;
const LINE: usize = 64;

/// Neighbouring places of the text's part of a sequence, or of the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) image: bool,
    pub(crate) start: usize,
    pub(crate) length: usize,
}

/// Keys and values of one head, \[places, padded width / lanes\].
#[derive(Debug)]
pub(crate) struct Planes<'a, E> {
    pub(crate) keys: &'a [[E; LANES]],
    pub(crate) values: &'a [[E; LANES]],
}

impl<E> Clone for Planes<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Planes<'_, E> {}

/// One head of one token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a, E> {
    /// \[head_width\]
    pub(crate) query: &'a [f32],
    /// What it sees, in the order of the positions.
    pub(crate) spans: &'a [Span],
    pub(crate) text: Planes<'a, E>,
    pub(crate) image: Planes<'a, E>,
}

impl<'a, E: Number> Reader<'a, E> {
    pub(crate) const NONE: Self = Self {
        query: &[],
        spans: &[],
        text: Planes { keys: &[], values: &[] },
        image: Planes { keys: &[], values: &[] },
    };

    fn positions(&self) -> usize {
        self.spans.iter().map(|span| span.length).sum()
    }

    #[inline(always)]
    fn planes(&self, span: Span) -> Planes<'a, E> {
        if span.image { self.image } else { self.text }
    }
}

/// Memory that calls reuse.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queries: Vec<Lanes>,
    weights: Vec<f32>,
    contexts: Vec<Lanes>,
}

/// The instructions that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path(Instructions);

/// Private, so that a path is made only where the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    Any,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Path {
    /// Those that the machine has, the best first.
    pub(crate) fn here() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            std::arch::is_x86_feature_detected!("avx512f").then_some(Instructions::Avx512),
            std::arch::is_x86_feature_detected!("avx2").then_some(Instructions::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None; 2];
        wide.into_iter().flatten().chain([Instructions::Any]).map(Self)
    }
}

/// Writes the contexts \[head_width\] of at most [`TOGETHER`] readers with queries of one width.
pub(crate) fn attend<E: Number>(
    path: Path,
    readers: &[Reader<'_, E>],
    scale: f32,
    scratch: &mut Scratch,
    contexts: &mut [&mut [f32]],
) {
    match path.0 {
        Instructions::Any => attend_with::<Lanes, E>(readers, scale, scratch, contexts),
        // SAFETY: the machine has them, or there would be no such path.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2 => unsafe { attend_avx2(readers, scale, scratch, contexts) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512 => unsafe { attend_avx512(readers, scale, scratch, contexts) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn attend_avx2<E: Number>(readers: &[Reader<'_, E>], scale: f32, scratch: &mut Scratch, contexts: &mut [&mut [f32]]) {
    attend_with::<crate::vector::x86::Avx2, E>(readers, scale, scratch, contexts);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn attend_avx512<E: Number>(readers: &[Reader<'_, E>], scale: f32, scratch: &mut Scratch, contexts: &mut [&mut [f32]]) {
    attend_with::<crate::vector::x86::Avx512, E>(readers, scale, scratch, contexts);
}

#[inline(always)]
fn attend_with<V: Vector, E: Number>(
    readers: &[Reader<'_, E>],
    scale: f32,
    scratch: &mut Scratch,
    contexts: &mut [&mut [f32]],
) {
    let groups = readers.first().map_or(0, |reader| reader.query.len()).div_ceil(LANES);
    let longest = readers.iter().map(Reader::positions).max().unwrap_or(0);
    let stride = longest.next_multiple_of(LANES);
    let Scratch { queries, weights, contexts: sums } = scratch;
    fill(queries, readers.len() * groups, [0.0; LANES]);
    fill(weights, readers.len() * stride, f32::NEG_INFINITY);
    fill(sums, readers.len() * groups, [0.0; LANES]);
    for (reader, query) in readers.iter().zip(queries.chunks_exact_mut(groups)) {
        for (padded, q) in query.as_flattened_mut().iter_mut().zip(reader.query) {
            *padded = q * scale;
        }
    }
    scores::<V, E>(readers, queries, weights, stride);
    let mut inverses = [0.0; TOGETHER];
    for ((reader, weights), inverse) in readers.iter().zip(weights.chunks_exact_mut(stride)).zip(&mut inverses) {
        *inverse = 1.0 / exponentials(&mut weights[..reader.positions().next_multiple_of(LANES)]);
    }
    mix::<V, E>(readers, weights, stride, sums, groups);
    for ((context, sums), inverse) in contexts.iter_mut().zip(sums.chunks_exact(groups)).zip(inverses) {
        for (out, sum) in context.iter_mut().zip(sums.as_flattened()) {
            *out = sum * inverse;
        }
    }
}

#[inline(always)]
fn fill<T: Clone>(buffer: &mut Vec<T>, length: usize, value: T) {
    buffer.clear();
    buffer.resize(length, value);
}

/// How many places of their `k`-th span, from its start on, four readers have in common.
#[inline(always)]
fn in_common<E: Number>(readers: &[Reader<'_, E>], k: usize) -> usize {
    let (Some((first, others)), TOGETHER) = (readers.split_first(), readers.len()) else { return 0 };
    let Some(span) = first.spans.get(k) else { return 0 };
    let place = |reader: &Reader<'_, E>, span: Span| (reader.planes(span).keys.as_ptr(), span.start);
    let mut length = span.length;
    for other in others {
        match other.spans.get(k) {
            Some(theirs) if place(other, *theirs) == place(first, *span) => length = length.min(theirs.length),
            _ => return 0,
        }
    }
    length
}

fn most_spans<E: Number>(readers: &[Reader<'_, E>]) -> usize {
    readers.iter().map(|reader| reader.spans.len()).max().unwrap_or(0)
}

/// query · key for every position that a reader sees, in order; `weights` are \[readers, stride\].
#[inline(always)]
fn scores<V: Vector, E: Number>(readers: &[Reader<'_, E>], queries: &[Lanes], weights: &mut [f32], stride: usize) {
    let groups = queries.len() / readers.len();
    let query = |i: usize| &queries[i * groups..][..groups];
    let mut done = [0; TOGETHER];
    for k in 0..most_spans(readers) {
        let common = in_common(readers, k);
        if common > 0 {
            let span = readers[0].spans[k];
            let keys = &readers[0].planes(span).keys[span.start * groups..][..common * groups];
            let queries = std::array::from_fn(query);
            let mut rows = weights.chunks_exact_mut(stride).zip(done).map(|(row, done)| &mut row[done..][..common]);
            let weights = std::array::from_fn(|_| rows.next().unwrap_or_default());
            match (V::WIDE, groups) {
                (4.., 4) => scores_of_four::<V, E, 4>(keys, queries, weights),
                (4.., 2) => scores_of_four::<V, E, 2>(keys, queries, weights),
                _ => {
                    let [a, b, c, d] = weights;
                    for (key, (((a, b), c), d)) in keys.chunks_exact(groups).zip(a.iter_mut().zip(b).zip(c).zip(d)) {
                        ahead::<V, E>(key);
                        [*a, *b, *c, *d] = dots::<V, E, f32>(key, queries);
                    }
                }
            }
        }
        for (i, reader) in readers.iter().enumerate() {
            let Some(span) = reader.spans.get(k) else { continue };
            let keys = &reader.planes(*span).keys[(span.start + common) * groups..];
            let weights = &mut weights[i * stride + done[i] + common..][..span.length - common];
            let (fours, rest) = weights.as_chunks_mut::<4>();
            for (sums, keys) in fours.iter_mut().zip(keys.chunks_exact(4 * groups)) {
                ahead::<V, E>(keys);
                *sums = dots::<V, f32, E>(query(i), std::array::from_fn(|j| &keys[j * groups..][..groups]));
            }
            let keys = &keys[4 * fours.len() * groups..];
            let key = |j: usize| &keys[j.min(rest.len() - 1) * groups..][..groups];
            if !rest.is_empty() {
                rest.copy_from_slice(&dots::<V, f32, E>(query(i), std::array::from_fn(key))[..rest.len()]);
            }
            done[i] += span.length;
        }
    }
}

/// Four queries of `N` groups of lanes, which stay in registers, · each of some keys.
#[inline(always)]
fn scores_of_four<V: Vector, E: Number, const N: usize>(
    keys: &[[E; LANES]],
    queries: [&[Lanes]; 4],
    weights: [&mut [f32]; 4],
) {
    let mut held = [[V::splat(0.0); N]; 4];
    for i in 0..4 {
        for n in 0..N {
            held[i][n] = V::load(&queries[i][n]);
        }
    }
    let [a, b, c, d] = weights;
    let weights = a.iter_mut().zip(b).zip(c).zip(d);
    for (key, (((a, b), c), d)) in keys.as_chunks::<N>().0.iter().zip(weights) {
        ahead::<V, E>(key);
        let mut sums = [V::splat(0.0); 4];
        for n in 0..N {
            let key = E::load::<V>(&key[n]);
            for i in 0..4 {
                sums[i] = sums[i].add(key.mul(held[i][n]));
            }
        }
        [*a, *b, *c, *d] = V::totals(sums);
    }
}

/// Asks for what comes behind these numbers.
#[inline(always)]
fn ahead<V: Vector, E: Number>(numbers: &[[E; LANES]]) {
    for line in (0..size_of_val(numbers)).step_by(LINE) {
        V::prefetch(numbers.as_ptr().wrapping_byte_add(AHEAD + line).cast());
    }
}

/// one · each of four.
#[inline(always)]
fn dots<V: Vector, A: Number, B: Number>(one: &[[A; LANES]], four: [&[[B; LANES]]; 4]) -> [f32; 4] {
    let [a, b, c, d] = four;
    let mut sums = [V::splat(0.0); 4];
    for ((((one, a), b), c), d) in one.iter().zip(a).zip(b).zip(c).zip(d) {
        let one = A::load::<V>(one);
        sums[0] = sums[0].add(one.mul(B::load::<V>(a)));
        sums[1] = sums[1].add(one.mul(B::load::<V>(b)));
        sums[2] = sums[2].add(one.mul(B::load::<V>(c)));
        sums[3] = sums[3].add(one.mul(B::load::<V>(d)));
    }
    V::totals(sums)
}

/// Turns scores into e^(score − highest) and gives their sum. The length is a multiple of [`LANES`].
#[inline(always)]
fn exponentials(scores: &mut [f32]) -> f32 {
    let mut highest: Lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    for chunk in &*chunks {
        for lane in 0..LANES {
            highest[lane] = if chunk[lane] > highest[lane] { chunk[lane] } else { highest[lane] };
        }
    }
    let highest = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut sums: Lanes = [0.0; LANES];
    for chunk in chunks {
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

/// Adds weight · value to `sums` \[readers, groups\], position by position.
#[inline(always)]
fn mix<V: Vector, E: Number>(
    readers: &[Reader<'_, E>],
    weights: &[f32],
    stride: usize,
    sums: &mut [Lanes],
    groups: usize,
) {
    let mut done = [0; TOGETHER];
    for k in 0..most_spans(readers) {
        let common = in_common(readers, k);
        if common > 0 {
            let span = readers[0].spans[k];
            let values = &readers[0].planes(span).values[span.start * groups..][..common * groups];
            for (tile, values) in values.chunks(TILE * groups).enumerate() {
                let weights = std::array::from_fn(|i| &weights[i * stride + done[i] + tile * TILE..]);
                mix_four::<V, E>(weights, values, sums, groups);
            }
        }
        for (i, reader) in readers.iter().enumerate() {
            let Some(span) = reader.spans.get(k) else { continue };
            let (start, length) = (span.start + common, span.length - common);
            let values = &reader.planes(*span).values[start * groups..][..length * groups];
            let weights = &weights[i * stride + done[i] + common..][..length];
            let sums = &mut sums[i * groups..][..groups];
            for (tile, weights) in weights.chunks(TILE).enumerate() {
                let values = &values[tile * TILE * groups..];
                let (fours, rest) = sums.as_chunks_mut::<4>();
                for (group, sums) in fours.iter_mut().enumerate() {
                    mix_one::<V, E, 4>(weights, &values[4 * group..], sums, groups);
                }
                for (group, sum) in rest.iter_mut().enumerate() {
                    let values = &values[4 * fours.len() + group..];
                    mix_one::<V, E, 1>(weights, values, std::array::from_mut(sum), groups);
                }
            }
            done[i] += span.length;
        }
    }
}

/// The values of some positions, \[positions, groups\], for four readers.
#[inline(always)]
fn mix_four<V: Vector, E: Number>(weights: [&[f32]; 4], values: &[[E; LANES]], sums: &mut [Lanes], groups: usize) {
    let mut group = 0;
    while group < groups {
        group += match (V::WIDE, groups - group) {
            (4.., 4..) => mix_some_of_four::<V, E, 4>(weights, values, sums, (groups, group)),
            _ => mix_some_of_four::<V, E, 1>(weights, values, sums, (groups, group)),
        };
    }
}

/// `N` neighbouring groups of lanes of that, from group `group` on.
#[inline(always)]
fn mix_some_of_four<V: Vector, E: Number, const N: usize>(
    weights: [&[f32]; 4],
    values: &[[E; LANES]],
    sums: &mut [Lanes],
    (groups, group): (usize, usize),
) -> usize {
    let mut mixed = [[V::splat(0.0); N]; 4];
    for i in 0..4 {
        for n in 0..N {
            mixed[i][n] = V::load(&sums[i * groups + group + n]);
        }
    }
    let [a, b, c, d] = weights;
    for ((((values, a), b), c), d) in values.chunks_exact(groups).zip(a).zip(b).zip(c).zip(d) {
        let values = &values[group..][..N];
        // The same of the next tile.
        for value in values {
            V::prefetch(value.as_ptr().wrapping_byte_add(TILE * groups * size_of::<[E; LANES]>()).cast());
        }
        let weights = [*a, *b, *c, *d];
        for n in 0..N {
            let value = E::load::<V>(&values[n]);
            for i in 0..4 {
                mixed[i][n] = mixed[i][n].add(V::splat(weights[i]).mul(value));
            }
        }
    }
    for i in 0..4 {
        for n in 0..N {
            mixed[i][n].store(&mut sums[i * groups + group + n]);
        }
    }
    N
}

/// `N` neighbouring groups of lanes of the values of some positions, for one reader; `values` begins with the first of them.
#[inline(always)]
fn mix_one<V: Vector, E: Number, const N: usize>(
    weights: &[f32],
    values: &[[E; LANES]],
    sums: &mut [Lanes; N],
    groups: usize,
) {
    let mut mixed: [V; N] = std::array::from_fn(|n| V::load(&sums[n]));
    for (weight, values) in weights.iter().zip(values.chunks(groups)) {
        let weight = V::splat(*weight);
        let values: &[[E; LANES]; N] = values.first_chunk().expect("a row has the groups that are asked for");
        ahead::<V, E>(values);
        for n in 0..N {
            mixed[n] = mixed[n].add(weight.mul(E::load::<V>(&values[n])));
        }
    }
    for (mixed, sum) in mixed.into_iter().zip(sums) {
        mixed.store(sum);
    }
}

#[cfg(test)]
mod tests;
