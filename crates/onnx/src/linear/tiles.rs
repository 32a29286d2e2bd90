//! Many rows by AMX: a tile of sixteen rows of a unit of activations, where they lie, times a tile of the panel's codes is their 256 sums at once. The same bits as
//! [`super::product`].
//!
//! [`super::path`] enters here only where the machine has the instructions, and AVX-512's: that is what makes intrinsics and assembly safe. Loads and stores are of
//! arrays at least as wide as the register. Assembly, because the compiler's own names for tiles are not stable yet.

use std::{
    arch::{asm, x86_64::*},
    cell::Cell,
    sync::OnceLock,
};

use super::{
    Bits, FOURS, OUTPUTS,
    matrix::{Matrix, Panel},
    product::{Put, Rows, finish},
    row::Unit,
    x86::Avx512,
};

/// Rows from which on it pays.
pub(super) const ROWS: usize = 16;

/// Rows of a tile.
pub(super) const TOGETHER: usize = 16;

/// Units that are multiplied before their sums are read.
const AT_ONCE: usize = 4;

/// Whether the machine has tiles of bytes, and the system lets this process use them.
pub(super) fn are_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| {
        const TILES: u32 = 1 << 24;
        const BYTES: u32 = 1 << 25;
        let has = !cfg!(miri) && __cpuid_count(7, 0).edx & (TILES | BYTES) == TILES | BYTES;
        has && super::x86::has_avx512() && permitted()
    })
}

/// Asks Linux for the tiles' state, which a process has only when it asked.
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: it takes two numbers and changes nothing but what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// What a thread's tiles are like: 0 sums \[16 rows, 16 outputs\], 1 activations \[16 rows, 32\], 2 codes \[32 / 4, 16 outputs of 4\].
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

static SHAPES: Shapes = Shapes {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    bytes: [64, 32, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    rows: [16, 16, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// The thread's tiles while it lives; without, switching to another thread is cheaper.
struct Tiles;

impl Tiles {
    fn new() -> Self {
        // SAFETY: see the module.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, preserves_flags)) };
        Self
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: see the module.
        unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
    }
}

/// A unit's codes less their code of zero.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Codes([[i8; 4 * OUTPUTS]; FOURS]);

/// The sums of a unit, row by row those of all outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Totals([[i32; OUTPUTS]; TOGETHER]);

/// What a thread computes in.
struct Memory {
    /// Of a panel.
    codes: Vec<Codes>,
    /// While the sums of some units are read the next ones are computed.
    totals: [[Totals; AT_ONCE]; 2],
}

thread_local! {
    static MEMORY: Cell<Option<Box<Memory>>> = const { Cell::new(None) };
}

/// All rows, of which there are a multiple of sixteen with those that are not asked for, by panels `first` … `last` − 1.
#[inline(always)]
pub(super) fn multiply(matrix: &Matrix<'_>, rows: Rows<'_>, (first, last): (usize, usize), put: impl Put) {
    let new = || Box::new(Memory { codes: Vec::new(), totals: [[Totals([[0; OUTPUTS]; TOGETHER]); AT_ONCE]; 2] });
    let mut memory = MEMORY.take().unwrap_or_else(new);
    let _tiles = Tiles::new();
    let across = rows.across;
    memory.codes.resize(across.max(memory.codes.len()), Codes([[0; 4 * OUTPUTS]; FOURS]));
    let (codes, totals) = (&mut memory.codes[..across], &mut memory.totals);
    for i in first..last {
        let panel = matrix.panel(i);
        match matrix.shape.bits {
            Bits::Four => lay_out::<4>(panel, codes),
            Bits::Eight => lay_out::<8>(panel, codes),
        }
        for row in (0..rows.count).step_by(TOGETHER) {
            let group = &rows.from(row)[..TOGETHER * across];
            let sums = sums(panel, codes, group, totals);
            for (row, mut numbers) in (row..rows.count).zip(sums) {
                finish(matrix, row, i, &mut numbers, &put);
            }
        }
    }
    MEMORY.set(Some(memory));
}

/// The codes as tiles want them.
#[inline(always)]
fn lay_out<const BITS: usize>(panel: Panel<'_>, units: &mut [Codes]) {
    for (codes, unit) in panel.codes.chunks_exact(64 * BITS).zip(units) {
        let registers = Avx512::codes::<BITS>(codes);
        for (four, to) in unit.0.iter_mut().enumerate() {
            // SAFETY: see the module.
            unsafe {
                let zero = _mm512_set1_epi8((1_u8 << (BITS - 1)) as i8);
                _mm512_store_si512(to.as_mut_ptr().cast(), _mm512_sub_epi8(registers[four], zero));
            }
        }
    }
}

/// Of a panel and sixteen rows.
#[inline(always)]
fn sums(
    panel: Panel<'_>,
    codes: &[Codes],
    rows: &[Unit],
    totals: &mut [[Totals; AT_ONCE]; 2],
) -> [[f32; OUTPUTS]; TOGETHER] {
    let (across, mut numbers) = (codes.len(), [[0.0; OUTPUTS]; TOGETHER]);
    // SAFETY: see the module.
    let mut sums = [unsafe { _mm512_setzero_ps() }; TOGETHER];
    let [now, then] = totals;
    let (mut now, mut then) = (now, then);
    products(codes, rows, 0, now);
    for unit in (0..across).step_by(AT_ONCE) {
        products(codes, rows, unit + AT_ONCE, then);
        for (i, (scales, Totals(totals))) in panel.scales[unit..].iter().zip(&*now).enumerate() {
            let scales = Avx512::scales(scales);
            for r in 0..TOGETHER {
                // SAFETY: see the module.
                unsafe {
                    let total = _mm512_cvtepi32_ps(_mm512_load_si512(totals[r].as_ptr().cast()));
                    let other = _mm512_set1_ps(rows[r * across + unit + i].scale);
                    sums[r] = _mm512_fmadd_ps(_mm512_mul_ps(total, scales), other, sums[r]);
                }
            }
        }
        (now, then) = (then, now);
    }
    for r in 0..TOGETHER {
        // SAFETY: see the module.
        unsafe { _mm512_storeu_ps(numbers[r].as_mut_ptr(), sums[r]) };
    }
    numbers
}

/// The sums of unit `unit` and those behind it, as many as are computed at once and as there are.
#[inline(always)]
fn products(codes: &[Codes], rows: &[Unit], unit: usize, totals: &mut [Totals; AT_ONCE]) {
    let across = codes.len();
    for (i, totals) in (unit..across).zip(totals) {
        // Sixteen rows begin here, `across` units apart.
        let rows = &rows[i..][..(TOGETHER - 1) * across + 1];
        // SAFETY: see the module; the tiles are read of the two and written to the sums.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tileloadd tmm1, [{rows} + {across}]",
                "tileloadd tmm2, [{codes} + {line}]",
                "tdpbssd tmm0, tmm1, tmm2",
                "tilestored [{totals} + {line}], tmm0",
                rows = in(reg) rows.as_ptr(),
                codes = in(reg) &raw const codes[i],
                totals = in(reg) &raw mut *totals,
                across = in(reg) across * size_of::<Unit>(),
                line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _,
                options(nostack, preserves_flags)
            );
        }
    }
}
