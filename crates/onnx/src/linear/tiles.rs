//! Several rows by AMX: a tile of sixteen outputs' codes of a unit times a tile of sixteen rows' is their 256 sums at once. The codes are laid out once for all rows,
//! and stay as they come: an output is a row of its tile. Of the sums a lane is a row, so that they are turned in the end. The same bits as [`super::product`].
//!
//! [`super::path`] enters here only where the machine has the instructions, and AVX-512's: that is what makes intrinsics and assembly safe. Loads and stores are of
//! arrays at least as wide as the register. Assembly, because the compiler's own names for tiles are not stable yet.

use std::{
    arch::{asm, x86_64::*},
    cell::Cell,
    sync::OnceLock,
};

use super::{
    Bits, CHUNK, LANES, UNIT, UNITS,
    matrix::Matrix,
    product::{Put, Rows},
    row::Beside,
};

/// Rows from which on it pays.
pub(super) const ROWS: usize = 16;

/// Outputs of a panel.
const OUTPUTS: usize = LANES;

/// Units that are multiplied before their sums are read.
const TOGETHER: usize = 4;

/// A row of activations, and a row of a tile of them, has a register's bytes.
const ROW: usize = 4 * LANES;

const LINE: usize = 64;

/// The units' four sums by turns, in the order in which they are added up.
const TURNS: [usize; UNITS] = [0, 2, 1, 3];

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

/// What a thread's tiles are like: 0 sums \[16 outputs, 16 rows\], 1 codes \[16 outputs, 32\], 2 activations \[32 / 4, 16 rows of 4\].
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

/// A unit of all outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit {
    /// Less their usual zero point.
    codes: [[i8; UNIT]; OUTPUTS],
    scales: [f32; OUTPUTS],
}

impl Unit {
    const ZERO: Self = Self { codes: [[0; UNIT]; OUTPUTS], scales: [0.0; OUTPUTS] };
}

/// The sums of a unit, output by output those of all rows.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Totals([[i32; LANES]; OUTPUTS]);

/// What a thread computes in.
struct Memory {
    /// A panel: all units of sixteen outputs.
    panel: Vec<Unit>,
    /// While the sums of some units are read the next ones are computed.
    totals: [[Totals; TOGETHER]; 2],
}

thread_local! {
    static MEMORY: Cell<Option<Box<Memory>>> = const { Cell::new(None) };
}

/// Outputs `first` … `last` − 1 of all rows, by a matrix without zero points.
#[inline(always)]
pub(super) fn multiply(matrix: &Matrix<'_>, rows: Rows<'_>, (first, last): (usize, usize), put: impl Put) {
    let new = || Box::new(Memory { panel: Vec::new(), totals: [[Totals([[0; LANES]; OUTPUTS]); TOGETHER]; 2] });
    let mut memory = MEMORY.take().unwrap_or_else(new);
    let _tiles = Tiles::new();
    let across = rows.across * UNITS;
    // A block may be padded by whole units, of which a row has none.
    let units = across.min(matrix.shape.blocks() * matrix.shape.block / UNIT);
    memory.panel.resize(units.max(memory.panel.len()), Unit::ZERO);
    let (panel, totals) = (&mut memory.panel[..units], &mut memory.totals);
    for output in (first..last).step_by(OUTPUTS) {
        lay_out(matrix, (output, last), panel);
        let mut next = Next::new(matrix, (output + OUTPUTS, last), units);
        for (group, beside) in rows.beside.chunks_exact(across).enumerate() {
            let numbers = turned(sums(panel, beside, totals, &mut next));
            for (row, mut numbers) in (group * LANES..rows.count()).zip(numbers) {
                if let Some(bias) = matrix.bias {
                    numbers.iter_mut().zip(&bias[output..last]).for_each(|(number, bias)| *number += bias);
                }
                put(row, output, &numbers[..OUTPUTS.min(last - output)]);
            }
        }
    }
    MEMORY.set(Some(memory));
}

/// The codes of the panel that comes next, for which the memory is asked while this one is computed.
struct Next {
    from: *const u8,
    lines: usize,
    /// At a time.
    each: usize,
    asked: usize,
}

impl Next {
    #[inline(always)]
    fn new(matrix: &Matrix<'_>, (output, last): (usize, usize), units: usize) -> Self {
        let lines = OUTPUTS.min(last.saturating_sub(output)) * matrix.shape.row_bytes() / LINE;
        Self {
            from: matrix.codes(output.min(last - 1)).as_ptr(),
            lines,
            each: lines.div_ceil(units.div_ceil(TOGETHER)),
            asked: 0,
        }
    }

    #[inline(always)]
    fn prefetch(&mut self) {
        let until = self.lines.min(self.asked + self.each);
        for line in self.asked..until {
            // SAFETY: asks for nothing that may not be there.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.from.wrapping_add(line * LINE).cast()) };
        }
        self.asked = until;
    }
}

/// Sums of the products of all units: of each output those of a group's rows.
#[inline(always)]
fn sums(panel: &[Unit], rows: &[Beside], totals: &mut [[Totals; TOGETHER]; 2], next: &mut Next) -> [__m512; OUTPUTS] {
    // SAFETY: see the module.
    let zero = unsafe { _mm512_setzero_ps() };
    let (mut sums, mut first, mut second) = ([zero; OUTPUTS], [zero; OUTPUTS], [zero; OUTPUTS]);
    let (mut turn, mut unit, mut side) = (0, 0, 0);
    let mut count = products(panel, rows, unit, &mut totals[side]);
    loop {
        let (mut next_turn, mut next_unit) = (turn, unit + TOGETHER * UNITS);
        while next_unit >= panel.len() && next_turn < UNITS {
            next_turn += 1;
            next_unit = TURNS[next_turn % UNITS];
        }
        next.prefetch();
        let [one, other] = &mut *totals;
        let (now, then) = if side == 0 { (one, other) } else { (other, one) };
        let next_count = if next_turn < UNITS { products(panel, rows, next_unit, then) } else { 0 };
        for i in 0..count {
            let unit = unit + i * UNITS;
            add(&now[i], &panel[unit].scales, &rows[unit].scales, &mut sums);
        }
        // (first + third) + (second + fourth)
        for finished in turn..next_turn {
            for i in 0..OUTPUTS {
                // SAFETY: see the module.
                unsafe {
                    match finished {
                        0 => first[i] = sums[i],
                        1 => first[i] = _mm512_add_ps(first[i], sums[i]),
                        2 => second[i] = sums[i],
                        _ => sums[i] = _mm512_add_ps(first[i], _mm512_add_ps(second[i], sums[i])),
                    }
                }
            }
            if finished + 1 < UNITS {
                sums = [zero; OUTPUTS];
            }
        }
        if next_turn == UNITS {
            return sums;
        }
        (turn, unit, side, count) = (next_turn, next_unit, 1 - side, next_count);
    }
}

/// The sums of unit `unit`, of the fourth behind it and so on, at most four; how many.
#[inline(always)]
fn products(panel: &[Unit], rows: &[Beside], unit: usize, totals: &mut [Totals; TOGETHER]) -> usize {
    let count = TOGETHER.min((panel.len() - unit).div_ceil(UNITS));
    for i in 0..count {
        one(&panel[unit + i * UNITS], &rows[unit + i * UNITS], &mut totals[i]);
    }
    count
}

/// Adds a unit's sums times (weights' scale · activations' scale).
#[inline(always)]
fn add(Totals(totals): &Totals, scales: &[f32; OUTPUTS], others: &[f32; LANES], sums: &mut [__m512; OUTPUTS]) {
    // SAFETY: see the module.
    unsafe {
        let others = _mm512_loadu_ps(others.as_ptr());
        for i in 0..OUTPUTS {
            let scales = _mm512_set1_ps(scales[i]);
            let total = _mm512_cvtepi32_ps(_mm512_load_si512(totals[i].as_ptr().cast()));
            sums[i] = _mm512_add_ps(sums[i], _mm512_mul_ps(total, _mm512_mul_ps(scales, others)));
        }
    }
}

/// The sums of a unit.
#[inline(always)]
fn one(codes: &Unit, rows: &Beside, totals: &mut Totals) {
    // SAFETY: see the module; the tiles are read of the two and written to the sums.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tileloadd tmm1, [{codes} + {codes_row}]",
            "tileloadd tmm2, [{rows} + {row}]",
            "tdpbssd tmm0, tmm1, tmm2",
            "tilestored [{totals} + {row}], tmm0",
            codes = in(reg) &raw const *codes,
            rows = in(reg) &raw const *rows,
            totals = in(reg) &raw mut *totals,
            codes_row = in(reg) UNIT,
            row = in(reg) ROW,
            out("tmm0") _, out("tmm1") _, out("tmm2") _,
            options(nostack, preserves_flags)
        );
    }
}

/// Columns become rows.
#[inline(always)]
fn turned(x: [__m512; LANES]) -> [[f32; LANES]; LANES] {
    let mut turned = [[0.0; LANES]; LANES];
    // SAFETY: see the module.
    unsafe {
        // Of each four registers the four numbers of each quarter: in `quads[i][q]` lane 4k + j is number 4k + q of register 4i + j.
        let mut quads = [[x[0]; 4]; 4];
        for i in 0..4 {
            let [a, b, c, d] = [x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]];
            let (ab, cd) = (_mm512_castps_pd(_mm512_unpacklo_ps(a, b)), _mm512_castps_pd(_mm512_unpacklo_ps(c, d)));
            let (ab_high, cd_high) =
                (_mm512_castps_pd(_mm512_unpackhi_ps(a, b)), _mm512_castps_pd(_mm512_unpackhi_ps(c, d)));
            quads[i][0] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
            quads[i][1] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
            quads[i][2] = _mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high));
            quads[i][3] = _mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high));
        }
        for q in 0..4 {
            let [a, b, c, d] = [quads[0][q], quads[1][q], quads[2][q], quads[3][q]];
            let (ab, cd) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d));
            let (ab_high, cd_high) = (_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(c, d));
            _mm512_storeu_ps(turned[q].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(ab, cd));
            _mm512_storeu_ps(turned[4 + q].as_mut_ptr(), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
            _mm512_storeu_ps(turned[8 + q].as_mut_ptr(), _mm512_shuffle_f32x4::<0x88>(ab_high, cd_high));
            _mm512_storeu_ps(turned[12 + q].as_mut_ptr(), _mm512_shuffle_f32x4::<0xdd>(ab_high, cd_high));
        }
    }
    turned
}

/// Fills the panel of outputs `output` … `output` + 15; those from `last` on are `last` − 1 once more.
#[inline(always)]
fn lay_out(matrix: &Matrix<'_>, (output, last): (usize, usize), panel: &mut [Unit]) {
    let (blocks, per_block) = (matrix.shape.blocks(), matrix.shape.block / UNIT);
    for i in 0..OUTPUTS {
        let output = (output + i).min(last - 1);
        lay_out_codes(matrix.shape.bits, matrix.codes(output), i, panel);
    }
    let scales = |i: usize| &matrix.scales[(output + i).min(last - 1) * blocks..][..blocks];
    let whole = if per_block == 1 { panel.len().min(blocks) / LANES * LANES } else { 0 };
    for u in (0..whole).step_by(LANES) {
        // SAFETY: see the module.
        let mut x = [unsafe { _mm512_setzero_ps() }; OUTPUTS];
        for i in 0..OUTPUTS {
            // SAFETY: as above.
            x[i] = unsafe { _mm512_loadu_ps(scales(i)[u..][..LANES].as_ptr()) };
        }
        panel[u..].iter_mut().zip(turned(x)).for_each(|(unit, scales)| unit.scales = scales);
    }
    for (u, unit) in panel.iter_mut().enumerate().skip(whole) {
        for i in 0..OUTPUTS {
            unit.scales[i] = scales(i)[u / per_block];
        }
    }
}

/// Writes output `i`'s codes into the panel.
#[inline(always)]
fn lay_out_codes(bits: Bits, codes: &[u8], i: usize, panel: &mut [Unit]) {
    let bytes = bits.bytes();
    for (c, units) in panel.chunks_mut(UNITS).enumerate() {
        let mut padded = [0; CHUNK];
        let codes = match codes.get(c * bytes..(c + 1) * bytes) {
            Some(codes) => codes,
            None => {
                let rest = &codes[c * bytes..];
                padded[..rest.len()].copy_from_slice(rest);
                &padded[..bytes]
            }
        };
        // SAFETY: see the module.
        unsafe {
            let parts = match bits {
                // The even numbers of a unit before the odd ones.
                Bits::Four => {
                    let (both, low, zero) =
                        (_mm512_loadu_si512(codes.as_ptr().cast()), _mm512_set1_epi8(15), _mm512_set1_epi8(8));
                    let even = _mm512_sub_epi8(_mm512_and_si512(both, low), zero);
                    let odd = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16::<4>(both), low), zero);
                    let (first, second) =
                        (_mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15));
                    [_mm512_permutex2var_epi64(even, first, odd), _mm512_permutex2var_epi64(even, second, odd)]
                }
                Bits::Eight => {
                    let zero = _mm512_set1_epi8(-128);
                    let part =
                        |i: usize| _mm512_xor_si512(_mm512_loadu_si512(codes.as_ptr().add(i * CHUNK / 2).cast()), zero);
                    [part(0), part(1)]
                }
            };
            for (u, unit) in units.iter_mut().enumerate() {
                let part = parts[u / 2];
                let half = if u % 2 == 0 { _mm512_castsi512_si256(part) } else { _mm512_extracti64x4_epi64::<1>(part) };
                _mm256_storeu_si256(unit.codes[i].as_mut_ptr().cast(), half);
            }
        }
    }
}
