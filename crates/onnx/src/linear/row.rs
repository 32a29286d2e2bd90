//! A row of activations in 8 bits.

use super::{Bits, FOURS, UNIT};

/// Added to a float and taken away again, it rounds to a whole number, ties to even; the sum's lowest byte is that number in two's complement.
const ROUND: f32 = 12_582_912.0;
const SIGN: u32 = 1 << 31;
const INFINITE: u32 = 0x7f80_0000;
/// The largest code; −128 is not used, so that a code's negative is a code.
const LARGEST: f32 = 127.0;

/// [`UNIT`] numbers of a row: number = code · scale.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Unit {
    pub(super) codes: [[i8; 4]; FOURS],
    pub(super) scale: f32,
    /// The sum of the codes times the weights' code of zero, negative: what is to be added to products with weights' codes as they are.
    pub(super) correction: i32,
}

impl Unit {
    pub(super) const ZERO: Self = Self { codes: [[0; 4]; FOURS], scale: 0.0, correction: 0 };
}

/// Writes a row's units; what the numbers do not fill is zero.
#[inline(always)]
pub(super) fn quantize(bits: Bits, numbers: &[f32], units: &mut [Unit]) {
    for (numbers, unit) in numbers.chunks(UNIT).zip(units) {
        *unit = match numbers.try_into() {
            Ok(numbers) => quantized(bits, numbers),
            Err(_) => {
                let mut padded = [0.0; UNIT];
                padded[..numbers.len()].copy_from_slice(numbers);
                quantized(bits, &padded)
            }
        };
    }
}

#[inline(always)]
fn quantized(bits: Bits, numbers: &[f32; UNIT]) -> Unit {
    let (scale, codes) = codes(numbers);
    let mut unit = Unit { scale, ..Unit::ZERO };
    unit.codes.as_flattened_mut().copy_from_slice(&codes);
    let sum: i32 = codes.iter().map(|code| i32::from(*code)).sum();
    unit.correction = -sum * bits.zero();
    unit
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
