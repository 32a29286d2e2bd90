//! A row of activations in 8 bits.

use super::{Bits, CHUNK, LANES, UNIT, UNITS};

/// Added to a float and taken away again, it rounds to a whole number, ties to even; the sum's lowest byte is that number in two's complement.
const ROUND: f32 = 12_582_912.0;
const SIGN: u32 = 1 << 31;
const INFINITE: u32 = 0x7f80_0000;
/// The largest code; −128 is not used, so that a code's negative is a code.
const LARGEST: f32 = 127.0;

/// [`CHUNK`] numbers of a row: number = code · scale of its unit.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// As the weights' codes come out of their bytes: of 4-bit codes the even numbers of four units, then the odd ones; of those of 8 bits the first halves of four
    /// units, then the second.
    pub(super) codes: [i8; CHUNK],
    /// The sum of a unit's codes times the weights' usual zero point, four times each.
    pub(super) corrections: [i32; LANES],
    /// A unit's scale, four times each.
    pub(super) scales: [f32; LANES],
}

impl Chunk {
    pub(super) const ZERO: Self = Self { codes: [0; CHUNK], corrections: [0; LANES], scales: [0.0; LANES] };
}

/// A unit of sixteen rows, side by side, as tiles of bytes want it.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Beside {
    /// Four codes of each row, then the next four.
    pub(super) codes: [[[i8; 4]; LANES]; UNIT / 4],
    pub(super) scales: [f32; LANES],
}

impl Beside {
    pub(super) const ZERO: Self = Self { codes: [[[0; 4]; LANES]; UNIT / 4], scales: [0.0; LANES] };
}

/// Puts at most sixteen rows of `across` chunks side by side; those that are missing are zeros.
pub(super) fn beside(rows: &[Chunk], across: usize, units: &mut [Beside]) {
    for (unit, to) in units.iter_mut().enumerate() {
        if rows.len() < LANES * across {
            *to = Beside::ZERO;
        }
        for (lane, row) in rows.chunks_exact(across).enumerate() {
            let (chunk, u) = (&row[unit / UNITS], unit % UNITS);
            to.scales[lane] = chunk.scales[4 * u];
            for (i, codes) in to.codes.iter_mut().enumerate() {
                let from = i / 4 * CHUNK / 2 + 16 * u + i % 4 * 4;
                codes[lane].copy_from_slice(&chunk.codes[from..from + 4]);
            }
        }
    }
}

/// Writes a row's chunks; what the numbers do not fill is zero.
#[inline(always)]
pub(super) fn quantize(bits: Bits, numbers: &[f32], chunks: &mut [Chunk]) {
    for (numbers, chunk) in numbers.chunks(CHUNK).zip(chunks) {
        *chunk = Chunk::ZERO;
        for (u, unit) in numbers.chunks(UNIT).enumerate() {
            match unit.try_into() {
                Ok(unit) => quantize_unit(bits, unit, u, chunk),
                Err(_) => {
                    let mut padded = [0.0; UNIT];
                    padded[..unit.len()].copy_from_slice(unit);
                    quantize_unit(bits, &padded, u, chunk);
                }
            }
        }
    }
}

#[inline(always)]
fn quantize_unit(bits: Bits, unit: &[f32; UNIT], u: usize, chunk: &mut Chunk) {
    let (scale, codes) = codes(unit);
    let (first, second) = chunk.codes.split_at_mut(CHUNK / 2);
    let (first, second) = (&mut first[UNIT / 2 * u..][..UNIT / 2], &mut second[UNIT / 2 * u..][..UNIT / 2]);
    match bits {
        Bits::Four => {
            for i in 0..UNIT / 2 {
                (first[i], second[i]) = (codes[2 * i], codes[2 * i + 1]);
            }
        }
        Bits::Eight => {
            first.copy_from_slice(&codes[..UNIT / 2]);
            second.copy_from_slice(&codes[UNIT / 2..]);
        }
    }
    let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
    let same = LANES / UNITS;
    chunk.corrections[same * u..][..same].fill(sum * bits.zero());
    chunk.scales[same * u..][..same].fill(scale);
}

/// The scale of some numbers and their codes. Of numbers one of which is not finite the scale is not a number; the tiniest become zeros.
#[inline(always)]
pub(super) fn codes<const N: usize>(numbers: &[f32; N]) -> (f32, [i8; N]) {
    let mut largest = 0;
    for x in numbers {
        largest = largest.max(x.to_bits() & !SIGN);
    }
    let inverse = LARGEST / f32::from_bits(largest);
    let mut codes = [0; N];
    if largest >= INFINITE {
        return (f32::NAN, codes);
    }
    if !inverse.is_finite() {
        return (0.0, codes);
    }
    for (code, x) in codes.iter_mut().zip(numbers) {
        *code = (x * inverse + ROUND).to_bits() as u8 as i8;
    }
    (f32::from_bits(largest) / LARGEST, codes)
}
