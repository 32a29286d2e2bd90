//! Registers of AVX2 and AVX-512. Their intrinsics are used only by functions that [`super::path`] enters where the machine has the instructions: that is what makes
//! them safe. Loads and stores are of arrays or slices at least as wide as the register.

use std::arch::x86_64::*;

use super::{
    Bits, CHUNK, LANES, UNITS,
    matrix::Matrix,
    panel,
    path::with,
    product::{Machine, OUTPUTS, Put, Rows},
    row::{Chunk, quantize},
};

/// Instructions that multiply bytes and add four products to a whole number.
pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[target_feature(enable = "avx2")]
pub(super) fn quantize_avx2(bits: Bits, numbers: &[f32], chunks: &mut [Chunk]) {
    quantize(bits, numbers, chunks);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn quantize_avx512(bits: Bits, numbers: &[f32], chunks: &mut [Chunk]) {
    quantize(bits, numbers, chunks);
}

#[target_feature(enable = "avx2")]
pub(super) fn multiply_avx2(matrix: &Matrix<'_>, rows: Rows<'_>, outputs: (usize, usize), put: impl Put) {
    with::<Avx2>(matrix, rows, outputs, put);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_avx512(matrix: &Matrix<'_>, rows: Rows<'_>, outputs: (usize, usize), put: impl Put) {
    if matrix.zeros.is_none() && rows.count() >= panel::ROWS {
        return panel::multiply(matrix, rows, outputs, put);
    }
    with::<Avx512>(matrix, rows, outputs, put);
}

/// Rows that lie side by side by tiles, others as without them.
#[cfg(target_os = "linux")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn multiply_tiles(matrix: &Matrix<'_>, rows: Rows<'_>, outputs: (usize, usize), put: impl Put) {
    if rows.beside.is_empty() {
        return multiply_avx512(matrix, rows, outputs, put);
    }
    super::tiles::multiply(matrix, rows, outputs, put);
}

struct Avx512;

impl Machine for Avx512 {
    type Codes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn unpack(bits: Bits, bytes: &[u8]) -> [__m512i; 2] {
        let bytes = &bytes[..bits.bytes()];
        // SAFETY: see the module.
        unsafe {
            let first = _mm512_loadu_si512(bytes.as_ptr().cast());
            match bits {
                Bits::Four => {
                    let low = _mm512_set1_epi8(15);
                    [_mm512_and_si512(first, low), _mm512_and_si512(_mm512_srli_epi16::<4>(first), low)]
                }
                Bits::Eight => {
                    let second = _mm512_loadu_si512(bytes.as_ptr().add(CHUNK / 2).cast());
                    [_mm512_shuffle_i32x4::<0x88>(first, second), _mm512_shuffle_i32x4::<0xdd>(first, second)]
                }
            }
        }
    }

    #[inline(always)]
    fn dot(_: Bits, [first, second]: [__m512i; 2], codes: &[i8; CHUNK]) -> __m512i {
        // SAFETY: see the module.
        unsafe {
            let dot = _mm512_dpbusd_epi32(_mm512_setzero_si512(), first, _mm512_loadu_si512(codes.as_ptr().cast()));
            _mm512_dpbusd_epi32(dot, second, _mm512_loadu_si512(codes.as_ptr().add(CHUNK / 2).cast()))
        }
    }

    #[inline(always)]
    fn gather([a, b, c, d]: [__m512i; OUTPUTS]) -> __m512i {
        // SAFETY: see the module.
        unsafe {
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd))
        }
    }

    #[inline(always)]
    fn centre(_: Bits, totals: __m512i, corrections: &[i32; LANES]) -> __m512i {
        // SAFETY: see the module.
        unsafe { _mm512_sub_epi32(totals, _mm512_loadu_si512(corrections.as_ptr().cast())) }
    }

    #[inline(always)]
    fn shift(bits: Bits, totals: __m512i, zeros: &[i32; LANES], corrections: &[i32; LANES]) -> __m512i {
        // SAFETY: see the module.
        unsafe {
            let corrections = _mm512_loadu_si512(corrections.as_ptr().cast());
            let sums = match bits {
                Bits::Four => _mm512_srai_epi32::<3>(corrections),
                Bits::Eight => _mm512_srai_epi32::<7>(corrections),
            };
            let zeros = _mm512_loadu_si512(zeros.as_ptr().cast());
            _mm512_sub_epi32(totals, _mm512_mullo_epi32(zeros, sums))
        }
    }

    #[inline(always)]
    fn floats(x: &[f32; LANES]) -> __m512 {
        // SAFETY: see the module.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn scales(scales: [[f32; UNITS]; OUTPUTS]) -> __m512 {
        // SAFETY: see the module.
        unsafe {
            let [a, b, c, d] = scales;
            let (a, b) = (_mm_loadu_ps(a.as_ptr()), _mm_loadu_ps(b.as_ptr()));
            let (c, d) = (_mm_loadu_ps(c.as_ptr()), _mm_loadu_ps(d.as_ptr()));
            let x = _mm512_castps128_ps512(a);
            let x = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(_mm512_insertf32x4::<1>(x, b), c), d);
            _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x)
        }
    }

    #[inline(always)]
    fn accumulate(sum: __m512, totals: __m512i, scales: __m512, others: &[f32; LANES]) -> __m512 {
        // SAFETY: see the module.
        unsafe {
            let scales = _mm512_mul_ps(scales, _mm512_loadu_ps(others.as_ptr()));
            _mm512_add_ps(sum, _mm512_mul_ps(_mm512_cvtepi32_ps(totals), scales))
        }
    }

    #[inline(always)]
    fn finish(sum: __m512) -> [f32; OUTPUTS] {
        // SAFETY: see the module.
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sum)));
            halves(_mm256_add_ps(_mm512_castps512_ps256(sum), high))
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: asks for nothing that may not be there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}

/// The lower four numbers plus the upper.
#[inline(always)]
fn halves(x: __m256) -> [f32; OUTPUTS] {
    let mut sums = [0.0; OUTPUTS];
    // SAFETY: see the module.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x))) };
    sums
}

/// Two registers: one of units 0 and 1, one of units 2 and 3.
struct Avx2;

#[inline(always)]
fn load<T>(x: &[T], byte: usize) -> __m256i {
    debug_assert!(byte + 32 <= size_of_val(x), "a register's bytes");
    // SAFETY: see the module.
    unsafe { _mm256_loadu_si256(x.as_ptr().byte_add(byte).cast()) }
}

/// Sums of four products of each of two registers' bytes with two others': codes of 4 bits, or of 8 less their zero point.
#[inline(always)]
fn dot(bits: Bits, weights: [__m256i; 2], codes: [__m256i; 2]) -> __m256i {
    // SAFETY: see the module.
    unsafe {
        match bits {
            // Four products of at most 15 · 127 fit into 16 bits,
            Bits::Four => {
                let first = _mm256_maddubs_epi16(weights[0], codes[0]);
                let second = _mm256_maddubs_epi16(weights[1], codes[1]);
                _mm256_madd_epi16(_mm256_add_epi16(first, second), _mm256_set1_epi16(1))
            }
            // and two of at most 128 · 127, but not of 255 · 127.
            Bits::Eight => _mm256_add_epi32(dot_signed(weights[0], codes[0]), dot_signed(weights[1], codes[1])),
        }
    }
}

/// Of weights less 128.
#[inline(always)]
fn dot_signed(weights: __m256i, codes: __m256i) -> __m256i {
    // SAFETY: see the module.
    unsafe {
        let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        let products = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(codes, weights));
        _mm256_madd_epi16(products, _mm256_set1_epi16(1))
    }
}

#[inline(always)]
fn gather([a, b, c, d]: [__m256i; OUTPUTS]) -> __m256i {
    // SAFETY: see the module.
    unsafe {
        let ab = _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
        let cd = _mm256_add_epi32(_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
        _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd))
    }
}

/// totals − zeros · sums of codes
#[inline(always)]
fn shift(bits: Bits, totals: __m256i, zeros: __m256i, corrections: __m256i) -> __m256i {
    // SAFETY: see the module.
    unsafe {
        let sums = match bits {
            Bits::Four => _mm256_srai_epi32::<3>(corrections),
            Bits::Eight => _mm256_srai_epi32::<7>(corrections),
        };
        _mm256_sub_epi32(totals, _mm256_mullo_epi32(zeros, sums))
    }
}

#[inline(always)]
fn accumulate(sum: __m256, totals: __m256i, scales: __m256, others: __m256i) -> __m256 {
    // SAFETY: see the module.
    unsafe {
        let scales = _mm256_mul_ps(scales, _mm256_castsi256_ps(others));
        _mm256_add_ps(sum, _mm256_mul_ps(_mm256_cvtepi32_ps(totals), scales))
    }
}

impl Machine for Avx2 {
    type Codes = [__m256i; 2];
    type Ints = [__m256i; 2];
    type Floats = [__m256; 2];

    #[inline(always)]
    fn unpack(bits: Bits, bytes: &[u8]) -> [[__m256i; 2]; 2] {
        let bytes = &bytes[..bits.bytes()];
        // SAFETY: see the module.
        unsafe {
            let (a, b) = (load(bytes, 0), load(bytes, 32));
            match bits {
                Bits::Four => {
                    let low = _mm256_set1_epi8(15);
                    let (high_a, high_b) = (_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b));
                    let first = [_mm256_and_si256(a, low), _mm256_and_si256(b, low)];
                    [first, [_mm256_and_si256(high_a, low), _mm256_and_si256(high_b, low)]]
                }
                Bits::Eight => {
                    let (c, d) = (load(bytes, 64), load(bytes, 96));
                    let first = [_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x20>(c, d)];
                    [first, [_mm256_permute2x128_si256::<0x31>(a, b), _mm256_permute2x128_si256::<0x31>(c, d)]]
                }
            }
        }
    }

    #[inline(always)]
    fn dot(bits: Bits, [first, second]: [[__m256i; 2]; 2], codes: &[i8; CHUNK]) -> [__m256i; 2] {
        [
            dot(bits, [first[0], second[0]], [load(codes, 0), load(codes, 64)]),
            dot(bits, [first[1], second[1]], [load(codes, 32), load(codes, 96)]),
        ]
    }

    #[inline(always)]
    fn gather([a, b, c, d]: [[__m256i; 2]; OUTPUTS]) -> [__m256i; 2] {
        [gather([a[0], b[0], c[0], d[0]]), gather([a[1], b[1], c[1], d[1]])]
    }

    #[inline(always)]
    fn centre(bits: Bits, totals: [__m256i; 2], corrections: &[i32; LANES]) -> [__m256i; 2] {
        match bits {
            // SAFETY: see the module.
            Bits::Four => unsafe {
                [_mm256_sub_epi32(totals[0], load(corrections, 0)), _mm256_sub_epi32(totals[1], load(corrections, 32))]
            },
            Bits::Eight => totals,
        }
    }

    #[inline(always)]
    fn shift(bits: Bits, totals: [__m256i; 2], zeros: &[i32; LANES], corrections: &[i32; LANES]) -> [__m256i; 2] {
        [
            shift(bits, totals[0], load(zeros, 0), load(corrections, 0)),
            shift(bits, totals[1], load(zeros, 32), load(corrections, 32)),
        ]
    }

    #[inline(always)]
    fn floats(x: &[f32; LANES]) -> [__m256; 2] {
        // SAFETY: see the module.
        unsafe { [_mm256_castsi256_ps(load(x, 0)), _mm256_castsi256_ps(load(x, 32))] }
    }

    #[inline(always)]
    fn scales([a, b, c, d]: [[f32; UNITS]; OUTPUTS]) -> [__m256; 2] {
        // SAFETY: see the module.
        unsafe {
            let (a, b) = (_mm_loadu_ps(a.as_ptr()), _mm_loadu_ps(b.as_ptr()));
            let (c, d) = (_mm_loadu_ps(c.as_ptr()), _mm_loadu_ps(d.as_ptr()));
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let first = _mm256_set_m128(_mm_movehl_ps(cd, ab), _mm_movelh_ps(ab, cd));
            let (ab, cd) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            [first, _mm256_set_m128(_mm_movehl_ps(cd, ab), _mm_movelh_ps(ab, cd))]
        }
    }

    #[inline(always)]
    fn accumulate(sum: [__m256; 2], totals: [__m256i; 2], scales: [__m256; 2], others: &[f32; LANES]) -> [__m256; 2] {
        [
            accumulate(sum[0], totals[0], scales[0], load(others, 0)),
            accumulate(sum[1], totals[1], scales[1], load(others, 32)),
        ]
    }

    #[inline(always)]
    fn finish([first, second]: [__m256; 2]) -> [f32; OUTPUTS] {
        // SAFETY: see the module.
        halves(unsafe { _mm256_add_ps(first, second) })
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: asks for nothing that may not be there.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
