//! Which instructions are used.

use super::{
    Bits,
    matrix::Matrix,
    product::{Arrays, Put, Rows, multiply},
    row::{Unit, quantize},
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

    /// Writes the units of a row of activations.
    pub(super) fn quantize(self, bits: Bits, numbers: &[f32], units: &mut [Unit]) {
        match self.0 {
            Instructions::Any => quantize(bits, numbers, units),
            // SAFETY: the machine has them, or there would be no such path.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { super::x86::quantize_avx2(bits, numbers, units) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { super::x86::quantize_avx512(bits, numbers, units) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles => unsafe { super::x86::quantize_avx512(bits, numbers, units) },
        }
    }

    /// How many rows there must be for a product of `count`: those behind are zeros.
    pub(super) fn rows(self, count: usize) -> usize {
        match self.0 {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles if count >= super::tiles::ROWS => count.next_multiple_of(super::tiles::TOGETHER),
            _ => count,
        }
    }

    /// All rows by panels `first` … `last` − 1.
    pub(super) fn multiply(self, matrix: &Matrix<'_>, rows: Rows<'_>, panels: (usize, usize), put: impl Put) {
        match self.0 {
            Instructions::Any => multiply::<Arrays>(matrix, rows, panels, put),
            // SAFETY: the machine has them, or there would be no such path.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { super::x86::multiply_avx2(matrix, rows, panels, put) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512 => unsafe { super::x86::multiply_avx512(matrix, rows, panels, put) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Instructions::Tiles => unsafe { super::x86::multiply_tiles(matrix, rows, panels, put) },
        }
    }
}
