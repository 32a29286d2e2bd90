//! Registers of AVX2 and AVX-512. Their intrinsics are used only by functions that [`super::path`] enters where the machine has the instructions: that is what makes
//! them safe. Loads and stores are of arrays or slices at least as wide as the register.

use std::arch::x86_64::*;

use super::{
    Bits, FOURS, OUTPUTS,
    matrix::{Matrix, Panel, Scales},
    product::{Machine, Put, Rows, multiply},
    row::{Unit, quantize},
};
use crate::vector::x86::prefetch;

/// Instructions that multiply bytes and add four products to a whole number.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn quantize_avx2(bits: Bits, numbers: &[f32], units: &mut [Unit]) {
    quantize(bits, numbers, units);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn quantize_avx512(bits: Bits, numbers: &[f32], units: &mut [Unit]) {
    quantize(bits, numbers, units);
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn multiply_avx2(matrix: &Matrix<'_>, rows: Rows<'_>, panels: (usize, usize), put: impl Put) {
    multiply::<Avx2>(matrix, rows, panels, put);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_avx512(matrix: &Matrix<'_>, rows: Rows<'_>, panels: (usize, usize), put: impl Put) {
    multiply::<Avx512>(matrix, rows, panels, put);
}

/// Sixteen rows and more by tiles, fewer as without them.
#[cfg(target_os = "linux")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_tiles(matrix: &Matrix<'_>, rows: Rows<'_>, panels: (usize, usize), put: impl Put) {
    if rows.count < super::tiles::ROWS {
        return multiply_avx512(matrix, rows, panels, put);
    }
    super::tiles::multiply(matrix, rows, panels, put);
}

/// Four codes as one number.
#[inline(always)]
fn four_of(unit: &Unit, four: usize) -> i32 {
    let [a, b, c, d] = unit.codes[four];
    i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}

pub(super) struct Avx512;

impl Avx512 {
    /// A unit's codes, four inputs of all outputs in a register.
    #[inline(always)]
    pub(super) fn codes<const BITS: usize>(codes: &[u8]) -> [__m512i; FOURS] {
        let codes = &codes[..OUTPUTS * FOURS * 4 * BITS / 8];
        // SAFETY: see the module.
        unsafe {
            let mut registers = [_mm512_setzero_si512(); FOURS];
            for i in 0..BITS {
                registers[i] = _mm512_loadu_si512(codes.as_ptr().add(64 * i).cast());
            }
            if BITS == 4 {
                let low = _mm512_set1_epi8(15);
                for i in 0..4 {
                    registers[4 + i] = _mm512_and_si512(_mm512_srli_epi16::<4>(registers[i]), low);
                    registers[i] = _mm512_and_si512(registers[i], low);
                }
            }
            registers
        }
    }

    #[inline(always)]
    pub(super) fn scales(scales: &Scales) -> __m512 {
        // SAFETY: see the module.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(scales.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
        }
    }
}

impl Machine for Avx512 {
    const ROWS: usize = 8;

    #[inline(always)]
    fn sums<const BITS: usize, const ROWS: usize>(
        panel: Panel<'_>,
        rows: &[Unit],
        across: usize,
        ahead: impl Fn(usize),
    ) -> [[f32; OUTPUTS]; ROWS] {
        let rows = &rows[..ROWS * across];
        let mut numbers = [[0.0; OUTPUTS]; ROWS];
        // SAFETY: see the module.
        unsafe {
            let mut sums = [_mm512_setzero_ps(); ROWS];
            for (i, scales) in panel.scales.iter().enumerate() {
                ahead(i);
                let weights = Self::codes::<BITS>(&panel.codes[i * 64 * BITS..]);
                let scales = Self::scales(scales);
                for r in 0..ROWS {
                    let unit = &rows[r * across + i];
                    let mut total = _mm512_set1_epi32(unit.correction);
                    for four in 0..FOURS {
                        total = _mm512_dpbusd_epi32(total, weights[four], _mm512_set1_epi32(four_of(unit, four)));
                    }
                    let part = _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales);
                    sums[r] = _mm512_fmadd_ps(part, _mm512_set1_ps(unit.scale), sums[r]);
                }
            }
            for r in 0..ROWS {
                _mm512_storeu_ps(numbers[r].as_mut_ptr(), sums[r]);
            }
        }
        numbers
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        prefetch(address);
    }
}

struct Avx2;

impl Machine for Avx2 {
    const ROWS: usize = 4;

    #[inline(always)]
    fn sums<const BITS: usize, const ROWS: usize>(
        panel: Panel<'_>,
        rows: &[Unit],
        across: usize,
        ahead: impl Fn(usize),
    ) -> [[f32; OUTPUTS]; ROWS] {
        let rows = &rows[..ROWS * across];
        let mut numbers = [[0.0; OUTPUTS]; ROWS];
        // SAFETY: see the module.
        unsafe {
            // Of eight outputs each.
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for (i, scales) in panel.scales.iter().enumerate() {
                ahead(i);
                let codes = &panel.codes[i * 64 * BITS..][..64 * BITS];
                for half in 0..2 {
                    let totals = totals::<BITS, ROWS>(codes, half, &rows[i..], across);
                    let scales = _mm256_cvtepu16_epi32(_mm_loadu_si128(scales.as_ptr().add(8 * half).cast()));
                    let scales = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(scales));
                    for r in 0..ROWS {
                        let part = _mm256_mul_ps(_mm256_cvtepi32_ps(totals[r]), scales);
                        let other = _mm256_set1_ps(rows[r * across + i].scale);
                        sums[r][half] = _mm256_fmadd_ps(part, other, sums[r][half]);
                    }
                }
            }
            for r in 0..ROWS {
                _mm256_storeu_ps(numbers[r].as_mut_ptr(), sums[r][0]);
                _mm256_storeu_ps(numbers[r][8..].as_mut_ptr(), sums[r][1]);
            }
        }
        numbers
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        prefetch(address);
    }
}

#[inline(always)]
fn load(codes: &[u8], byte: usize) -> __m256i {
    // SAFETY: see the module.
    unsafe { _mm256_loadu_si256(codes[byte..][..32].as_ptr().cast()) }
}

#[inline(always)]
fn four_everywhere(unit: &Unit, four: usize) -> __m256i {
    // SAFETY: see the module.
    unsafe { _mm256_set1_epi32(four_of(unit, four)) }
}

/// Of the first or the last eight outputs, a unit's sums of products with each row, the first of `rows` and every `across` behind it.
#[inline(always)]
fn totals<const BITS: usize, const ROWS: usize>(
    codes: &[u8],
    half: usize,
    rows: &[Unit],
    across: usize,
) -> [__m256i; ROWS] {
    // SAFETY: see the module.
    unsafe {
        let (ones, mut totals) = (_mm256_set1_epi16(1), [_mm256_setzero_si256(); ROWS]);
        if BITS == 4 {
            // Sixteen products of at most 15 · 127 fit into 16 bits.
            let low = _mm256_set1_epi8(15);
            for i in 0..4 {
                let both = load(codes, 64 * i + 32 * half);
                let (first, second) =
                    (_mm256_and_si256(both, low), _mm256_and_si256(_mm256_srli_epi16::<4>(both), low));
                for r in 0..ROWS {
                    totals[r] =
                        _mm256_add_epi16(totals[r], _mm256_maddubs_epi16(first, four_everywhere(&rows[r * across], i)));
                    totals[r] = _mm256_add_epi16(
                        totals[r],
                        _mm256_maddubs_epi16(second, four_everywhere(&rows[r * across], 4 + i)),
                    );
                }
            }
            for r in 0..ROWS {
                let correction = _mm256_set1_epi32(rows[r * across].correction);
                totals[r] = _mm256_add_epi32(_mm256_madd_epi16(totals[r], ones), correction);
            }
            return totals;
        }
        // Two of at most 128 · 127 do, but not of 255 · 127: so the weights are less their code of zero.
        for i in 0..FOURS {
            let weights = _mm256_xor_si256(load(codes, 64 * i + 32 * half), _mm256_set1_epi8(-128));
            for r in 0..ROWS {
                let others = _mm256_sign_epi8(four_everywhere(&rows[r * across], i), weights);
                let products = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), others);
                totals[r] = _mm256_add_epi32(totals[r], _mm256_madd_epi16(products, ones));
            }
        }
        totals
    }
}
