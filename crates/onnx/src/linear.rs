//! `easel.MatMulPanels`, version 1: y = x · Wᵀ + bias with W in blocks of 4 or 8 bits. Of a row of x nothing depends on the others, not a bit: ONNX Runtime's `MatMulNBits`
//! has another kernel, which adds up in another order, for a row that is alone.
//!
//! Inputs `x` f32 \[…, K\], `panels` u8 \[⌈N / 16⌉, bytes of a panel\] (`matrix` says how they lie there) and, where it is there, `bias` f32 \[N\]; output f32 \[…, N\].
//! Attributes: `K`, `N` and `bits` (4 or 8). All but `x` are constants.
//!
//! Activations become 8-bit integers, each 32 of a row with a scale of their own (`row`); what is done with them, `product` says.

mod matrix;
mod operator;
mod path;
mod product;
mod row;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers go by one index, and are only kept in registers where the compiler sees it"
)]
mod tiles;
#[cfg(target_arch = "x86_64")]
#[allow(
    clippy::needless_range_loop,
    reason = "several arrays of registers go by one index, and are only kept in registers where the compiler sees it"
)]
mod x86;

use ort::operator::OperatorDomain;

pub(crate) use operator::Linear;

/// Numbers of a row, of the matrix or of activations, that share a scale.
const UNIT: usize = 32;
/// Groups of four numbers in a unit: what one instruction adds up.
const FOURS: usize = UNIT / 4;
/// Outputs of a panel, beside one another: a register has a lane for each.
const OUTPUTS: usize = 16;

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

    /// The code of zero.
    const fn zero(self) -> i32 {
        1 << (self.count() - 1)
    }
}

/// Easel's operators that need no pool.
pub(crate) fn domain() -> ort::Result<OperatorDomain> {
    OperatorDomain::new("easel")?.add(Linear::new())
}

#[cfg(test)]
mod tests;
