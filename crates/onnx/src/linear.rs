//! `easel.MatMulNBits`, version 1: y = x · Wᵀ + bias with W in blocks of 4 or 8 bits, as `com.microsoft.MatMulNBits` has it. Of a row of x nothing depends on the
//! others, not a bit: ONNX Runtime's has another kernel, which adds up in another order, for a row that is alone.
//!
//! Inputs `x` f32 \[…, K\], `codes` u8 \[N, blocks, bytes of a block\], `scales` f32 \[N, blocks\], and, where they are there, `zero_points` u8 \[N, blocks · bits / 8\]
//! (128 for 8 bits and 8 for 4 where they are missing) and `bias` f32 \[N\]; output f32 \[…, N\]. Attributes: `K`, `N`, `bits` (4 or 8), `block_size` (32, 64, 128 or
//! 256). All but `x` are constants.
//!
//! Activations become 8-bit integers, each 32 of a row with a scale of their own (`row`); what is done with them, `product` says.

mod matrix;
mod operator;
#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers go by one index, and are only kept in registers where the compiler sees it"
)]
mod panel;
mod path;
#[allow(
    clippy::needless_range_loop,
    clippy::manual_map,
    reason = "several arrays of registers go by one index; a closure would not be compiled for the instructions of its machine"
)]
mod product;
mod row;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers go by one index, and are only kept in registers where the compiler sees it"
)]
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use ort::operator::OperatorDomain;

pub(crate) use operator::Linear;

/// Numbers of a row of activations that share a scale.
const UNIT: usize = 32;
/// Units that are computed side by side.
const UNITS: usize = 4;
const CHUNK: usize = UNIT * UNITS;
/// Whole numbers or floats in a register.
const LANES: usize = 16;

/// What a weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    Four,
    Eight,
}

impl Bits {
    const fn count(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The code of zero where no others are given.
    const fn zero(self) -> i32 {
        1 << (self.count() - 1)
    }

    /// Of a chunk's codes.
    const fn bytes(self) -> usize {
        CHUNK * self.count() / 8
    }
}

/// Easel's operators that need no pool.
pub(crate) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new("easel")?.add(Linear::new())
}

#[cfg(test)]
mod tests;
