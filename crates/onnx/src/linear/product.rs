//! Products of rows of activations with rows of a matrix, in registers of the machine or wherever the compiler puts them.
//!
//! Whatever computes it, a number of the result is this: of every unit the sum of the products of codes, less its zero point's part, as a whole number; that times
//! (weights' scale · activations' scale), added to one of four sums by turns; in the end (first + third) + (second + fourth), and the bias. Whole numbers are exact in any
//! order, and nothing else has another order anywhere: so all ways give the same bits.

use super::{
    Bits, CHUNK, LANES, UNITS,
    matrix::Matrix,
    row::{Beside, Chunk},
};

/// Rows of the matrix that are computed together.
pub(super) const OUTPUTS: usize = 4;

/// How far ahead of what is read memory is asked for.
const AHEAD: usize = 4096;

/// Registers of some kind. One of whole numbers or floats has a lane for each unit of a chunk and each of four outputs: lane 4u + n.
pub(super) trait Machine {
    /// Half of the codes of an output's chunk, a byte each.
    type Codes: Copy;
    type Ints: Copy;
    type Floats: Copy;

    /// Of the bytes of a chunk, as `row` places the activations' codes.
    fn unpack(bits: Bits, bytes: &[u8]) -> [Self::Codes; 2];
    /// Sums of products: those of a unit somewhere in its four lanes. Of 8 bits they may be of codes less the usual zero point.
    fn dot(bits: Bits, weights: [Self::Codes; 2], codes: &[i8; CHUNK]) -> Self::Ints;
    /// `dot` of four outputs, each unit's lanes added up.
    fn gather(dots: [Self::Ints; OUTPUTS]) -> Self::Ints;
    /// As if all codes were less the usual zero point.
    fn centre(bits: Bits, totals: Self::Ints, corrections: &[i32; LANES]) -> Self::Ints;
    /// As if the codes were less so much more.
    fn shift(bits: Bits, totals: Self::Ints, zeros: &[i32; LANES], corrections: &[i32; LANES]) -> Self::Ints;
    fn floats(x: &[f32; LANES]) -> Self::Floats;
    /// The scales of four outputs.
    fn scales(scales: [[f32; UNITS]; OUTPUTS]) -> Self::Floats;
    /// sum + totals · (scales · others), no two of these in one step.
    fn accumulate(sum: Self::Floats, totals: Self::Ints, scales: Self::Floats, others: &[f32; LANES]) -> Self::Floats;
    /// The sums over the units.
    fn finish(sum: Self::Floats) -> [f32; OUTPUTS];
    /// Asks for memory that will be read soon, if it is there.
    fn prefetch(address: *const u8);
}

/// Rows of activations, so many chunks each.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) chunks: &'a [Chunk],
    pub(super) across: usize,
    /// The same, sixteen rows side by side; empty where nothing wants it.
    pub(super) beside: &'a [Beside],
}

impl<'a> Rows<'a> {
    pub(super) fn count(&self) -> usize {
        self.chunks.len() / self.across
    }

    pub(super) fn row(&self, i: usize) -> &'a [Chunk] {
        &self.chunks[i * self.across..][..self.across]
    }
}

/// Where results go: `put(row, output, numbers)`, some neighbouring outputs of a row.
pub(super) trait Put: Fn(usize, usize, &[f32]) {}

impl<F: Fn(usize, usize, &[f32])> Put for F {}

/// Outputs `first` … `last` − 1 of all rows.
///
/// All rows meet four outputs before the next four, so that the memory is never idle. Arrays are written out, here and in the machines: what is in a closure is
/// compiled without the machine's instructions where the compiler does not inline it.
#[inline(always)]
pub(super) fn multiply<M: Machine, const BITS: usize>(
    matrix: &Matrix<'_>,
    rows: Rows<'_>,
    (first, last): (usize, usize),
    put: impl Put,
) {
    for output in (first..last).step_by(OUTPUTS) {
        let mut row = 0;
        while row < rows.count() {
            row += match rows.count() - row {
                1 => some::<M, BITS, 1>(matrix, rows, row, (output, last), &put),
                2 => some::<M, BITS, 2>(matrix, rows, row, (output, last), &put),
                3 => some::<M, BITS, 3>(matrix, rows, row, (output, last), &put),
                // More than four do not fit into the registers: the matrix's codes are unpacked again.
                _ => some::<M, BITS, 4>(matrix, rows, row, (output, last), &put),
            };
        }
    }
}

/// Outputs `output` … `output` + 3 of rows `row` … `row` + ROWS − 1, of the outputs before `last`.
#[inline(always)]
fn some<M: Machine, const BITS: usize, const ROWS: usize>(
    matrix: &Matrix<'_>,
    rows: Rows<'_>,
    row: usize,
    (output, last): (usize, usize),
    put: &impl Put,
) -> usize {
    let mut these: [&[Chunk]; ROWS] = [&[]; ROWS];
    for i in 0..ROWS {
        these[i] = rows.row(row + i);
    }
    // Where there are not four left, the last is computed again.
    let at = |i: usize| (output + i).min(last - 1);
    let sums = sums::<M, BITS, ROWS>(matrix, these, [at(0), at(1), at(2), at(3)]);
    for i in 0..ROWS {
        let mut numbers = M::finish(sums[i]);
        if let Some(bias) = matrix.bias {
            numbers.iter_mut().zip(&bias[output..last]).for_each(|(number, bias)| *number += bias);
        }
        put(row + i, output, &numbers[..OUTPUTS.min(last - output)]);
    }
    ROWS
}

#[inline(always)]
fn sums<M: Machine, const BITS: usize, const ROWS: usize>(
    matrix: &Matrix<'_>,
    rows: [&[Chunk]; ROWS],
    outputs: [usize; OUTPUTS],
) -> [M::Floats; ROWS] {
    let bits = if BITS == 4 { Bits::Four } else { Bits::Eight };
    let bytes = bits.bytes();
    let [a, b, c, d] = outputs;
    let (a, b, c, d) = (matrix.codes(a), matrix.codes(b), matrix.codes(c), matrix.codes(d));
    let (whole, rest) = (a.len() / bytes, a.len() % bytes);
    // A block may be padded by whole chunks, of which a row has none.
    let whole = whole.min(rows[0].len());
    let mut sums = [M::floats(&[0.0; LANES]); ROWS];
    for chunk in 0..whole {
        let from = chunk * bytes;
        let codes = [&a[from..][..bytes], &b[from..][..bytes], &c[from..][..bytes], &d[from..][..bytes]];
        for codes in codes {
            M::prefetch(codes.as_ptr().wrapping_add(AHEAD));
        }
        add::<M, ROWS>(bits, matrix, codes, (outputs, chunk), rows, &mut sums);
    }
    if rest > 0 && whole < rows[0].len() {
        let mut padded = [[0; CHUNK]; OUTPUTS];
        for (padded, codes) in padded.iter_mut().zip([a, b, c, d]) {
            padded[..rest].copy_from_slice(&codes[whole * bytes..]);
        }
        let [a, b, c, d] = &padded;
        let codes = [&a[..bytes], &b[..bytes], &c[..bytes], &d[..bytes]];
        add::<M, ROWS>(bits, matrix, codes, (outputs, whole), rows, &mut sums);
    }
    sums
}

/// Adds the products of a chunk.
#[inline(always)]
fn add<M: Machine, const ROWS: usize>(
    bits: Bits,
    matrix: &Matrix<'_>,
    [a, b, c, d]: [&[u8]; OUTPUTS],
    (outputs, chunk): ([usize; OUTPUTS], usize),
    rows: [&[Chunk]; ROWS],
    sums: &mut [M::Floats; ROWS],
) {
    let [a, b, c, d] = [M::unpack(bits, a), M::unpack(bits, b), M::unpack(bits, c), M::unpack(bits, d)];
    let of = |i: usize| matrix.scales(outputs[i], chunk);
    let scales = M::scales([of(0), of(1), of(2), of(3)]);
    let zeros = match matrix.zeros {
        Some(zeros) => Some(matrix.zeros(zeros, outputs, chunk)),
        None => None,
    };
    for i in 0..ROWS {
        let row = &rows[i][chunk];
        let codes = &row.codes;
        let dots = [M::dot(bits, a, codes), M::dot(bits, b, codes), M::dot(bits, c, codes), M::dot(bits, d, codes)];
        let mut totals = M::centre(bits, M::gather(dots), &row.corrections);
        if let Some(zeros) = &zeros {
            totals = M::shift(bits, totals, zeros, &row.corrections);
        }
        sums[i] = M::accumulate(sums[i], totals, scales, &row.scales);
    }
}
