//! Which instructions are used, and arrays where there are none.

use super::{
    Bits, CHUNK, LANES, UNITS,
    matrix::Matrix,
    product::{Machine, OUTPUTS, Put, Rows, multiply},
    row::{Chunk, quantize},
};

/// The instructions that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path(Instructions);

/// Private, so that a path is made only where the machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    Any,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Tiles,
}

impl Path {
    /// Those that the machine has, the best first.
    pub(super) fn here() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            super::x86::has_avx512().then_some(Instructions::Avx512),
            super::x86::has_avx2().then_some(Instructions::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None; 2];
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        let tiles = super::tiles::are_here().then_some(Instructions::Tiles);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let tiles = None;
        [tiles].into_iter().chain(wide).flatten().chain([Instructions::Any]).map(Self)
    }

    /// Writes the chunks of a row of activations.
    pub(super) fn quantize(self, bits: Bits, numbers: &[f32], chunks: &mut [Chunk]) {
        match self.0 {
            Instructions::Any => quantize(bits, numbers, chunks),
            // SAFETY: the machine has them, or there would be no such path.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { super::x86::quantize_avx2(bits, numbers, chunks) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { super::x86::quantize_avx512(bits, numbers, chunks) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles => unsafe { super::x86::quantize_avx512(bits, numbers, chunks) },
        }
    }

    /// How many groups of sixteen rows are to be laid side by side ([`super::row::beside`]) for a product of so many rows; none: it wants none.
    pub(super) fn groups(self, matrix: &Matrix<'_>, rows: usize) -> usize {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles if matrix.zeros.is_none() && rows >= super::tiles::ROWS => rows.div_ceil(LANES),
            _ => 0,
        }
    }

    /// Outputs `first` … `last` − 1 of all rows.
    pub(super) fn multiply(self, matrix: &Matrix<'_>, rows: Rows<'_>, outputs: (usize, usize), put: impl Put) {
        match self.0 {
            Instructions::Any => with::<Arrays>(matrix, rows, outputs, put),
            // SAFETY: the machine has them, or there would be no such path.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { super::x86::multiply_avx2(matrix, rows, outputs, put) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { super::x86::multiply_avx512(matrix, rows, outputs, put) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles => unsafe { super::x86::multiply_tiles(matrix, rows, outputs, put) },
        }
    }
}

#[inline(always)]
pub(super) fn with<M: Machine>(matrix: &Matrix<'_>, rows: Rows<'_>, outputs: (usize, usize), put: impl Put) {
    match matrix.shape.bits {
        Bits::Four => multiply::<M, 4>(matrix, rows, outputs, put),
        Bits::Eight => multiply::<M, 8>(matrix, rows, outputs, put),
    }
}

/// No registers.
struct Arrays;

impl Machine for Arrays {
    type Codes = [u8; CHUNK / 2];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    #[inline(always)]
    fn unpack(bits: Bits, bytes: &[u8]) -> [Self::Codes; 2] {
        match bits {
            Bits::Four => {
                let bytes: &[u8; CHUNK / 2] = bytes.try_into().expect("a chunk's bytes");
                [bytes.map(|byte| byte & 15), bytes.map(|byte| byte >> 4)]
            }
            Bits::Eight => {
                let bytes: &[u8; CHUNK] = bytes.try_into().expect("a chunk's bytes");
                let mut halves = [[0; CHUNK / 2]; 2];
                for (i, bytes) in bytes.as_chunks::<16>().0.iter().enumerate() {
                    halves[i % 2][i / 2 * 16..][..16].copy_from_slice(bytes);
                }
                halves
            }
        }
    }

    #[inline(always)]
    fn dot(_: Bits, weights: [Self::Codes; 2], codes: &[i8; CHUNK]) -> Self::Ints {
        // A unit's sum is in the first of its lanes. Sums of sixteen products are what compilers have instructions for.
        let part = |u: usize, half: usize| -> i32 {
            let (weights, codes) = (&weights[half][16 * u..][..16], &codes[half * CHUNK / 2 + 16 * u..][..16]);
            weights.iter().zip(codes).map(|(weight, code)| i32::from(*weight) * i32::from(*code)).sum()
        };
        std::array::from_fn(|lane| if lane % 4 == 0 { part(lane / 4, 0) + part(lane / 4, 1) } else { 0 })
    }

    #[inline(always)]
    fn gather(dots: [Self::Ints; OUTPUTS]) -> Self::Ints {
        std::array::from_fn(|lane| dots[lane % 4][lane / 4 * 4])
    }

    #[inline(always)]
    fn centre(_: Bits, totals: Self::Ints, corrections: &[i32; LANES]) -> Self::Ints {
        std::array::from_fn(|lane| totals[lane] - corrections[lane])
    }

    #[inline(always)]
    fn shift(bits: Bits, totals: Self::Ints, zeros: &[i32; LANES], corrections: &[i32; LANES]) -> Self::Ints {
        std::array::from_fn(|lane| totals[lane] - zeros[lane] * (corrections[lane] / bits.zero()))
    }

    #[inline(always)]
    fn floats(x: &[f32; LANES]) -> Self::Floats {
        *x
    }

    #[inline(always)]
    fn scales(scales: [[f32; UNITS]; OUTPUTS]) -> Self::Floats {
        std::array::from_fn(|lane| scales[lane % 4][lane / 4])
    }

    #[inline(always)]
    fn accumulate(sum: Self::Floats, totals: Self::Ints, scales: Self::Floats, others: &[f32; LANES]) -> Self::Floats {
        std::array::from_fn(|lane| sum[lane] + totals[lane] as f32 * (scales[lane] * others[lane]))
    }

    #[inline(always)]
    fn finish(sum: Self::Floats) -> [f32; OUTPUTS] {
        std::array::from_fn(|n| (sum[n] + sum[8 + n]) + (sum[4 + n] + sum[12 + n]))
    }

    #[inline(always)]
    fn prefetch(_: *const u8) {}
}
