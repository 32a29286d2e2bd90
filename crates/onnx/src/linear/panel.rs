//! Many rows by AVX-512: the codes of sixteen outputs are laid out once, output beside output, and serve all rows. A lane is then an output, and nothing has to be
//! gathered from neighbouring lanes: half the instructions of [`super::product`], and the same bits.
//!
//! As in [`super::x86`], the intrinsics are used only where the machine has the instructions, and registers are loaded of arrays as wide.

use std::{arch::x86_64::*, cell::RefCell};

use super::{
    Bits, CHUNK, LANES, UNIT, UNITS,
    matrix::Matrix,
    product::{Put, Rows},
    row::Chunk,
};

/// Rows from which on laying out pays.
pub(super) const ROWS: usize = 12;

/// Rows that are computed together.
const TOGETHER: usize = 4;

/// Outputs of a panel.
const OUTPUTS: usize = LANES;

/// Of a unit's codes, those of four inputs, of all outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Four([u8; 4 * OUTPUTS]);

/// A unit of all outputs.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Unit {
    /// In the order of a row's codes: four of the first half of its chunk, four of the second.
    codes: [Four; UNIT / 4],
    scales: [f32; OUTPUTS],
}

impl Unit {
    const ZERO: Self = Self { codes: [Four([0; 4 * OUTPUTS]); UNIT / 4], scales: [0.0; OUTPUTS] };
}

thread_local! {
    /// A panel: all units of sixteen outputs.
    static PANEL: RefCell<Vec<Unit>> = const { RefCell::new(Vec::new()) };
}

/// Outputs `first` … `last` − 1 of all rows, by a matrix without zero points.
#[inline(always)]
pub(super) fn multiply(matrix: &Matrix<'_>, rows: Rows<'_>, (first, last): (usize, usize), put: impl Put) {
    let mut panel = PANEL.take();
    let units = rows.across * UNITS;
    panel.resize(units.max(panel.len()), Unit::ZERO);
    for output in (first..last).step_by(OUTPUTS) {
        lay_out(matrix, (output, last), &mut panel[..units]);
        let mut put = |row: usize, numbers: &mut [f32; OUTPUTS]| {
            if let Some(bias) = matrix.bias {
                numbers.iter_mut().zip(&bias[output..last]).for_each(|(number, bias)| *number += bias);
            }
            put(row, output, &numbers[..OUTPUTS.min(last - output)]);
        };
        let next = Next { codes: matrix.codes((output + OUTPUTS).min(last - 1)).as_ptr(), matrix, rows };
        let (panel, mut row) = (&panel[..units], 0);
        while row < rows.count() {
            row += match rows.count() - row {
                1 => some::<1>(panel, rows, row, &next, &mut put),
                2 => some::<2>(panel, rows, row, &next, &mut put),
                3 => some::<3>(panel, rows, row, &next, &mut put),
                _ => some::<TOGETHER>(panel, rows, row, &next, &mut put),
            };
        }
    }
    PANEL.set(panel);
}

/// The panel that comes next, of which every group of rows asks the memory for a part.
struct Next<'a> {
    codes: *const u8,
    matrix: &'a Matrix<'a>,
    rows: Rows<'a>,
}

impl Next<'_> {
    /// Group `group` of rows at chunk `i`.
    #[inline(always)]
    fn prefetch(&self, group: usize, i: usize) {
        let (across, bytes) = (self.matrix.shape.row_bytes(), self.matrix.shape.bits.bytes());
        let (mut output, groups) = (group, self.rows.count().div_ceil(TOGETHER));
        while output < OUTPUTS {
            for line in (0..bytes).step_by(64) {
                let address = self.codes.wrapping_add(output * across + i * bytes + line);
                // SAFETY: asks for nothing that may not be there.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
            }
            output += groups;
        }
    }
}

/// Rows `row` … `row` + ROWS − 1.
#[inline(always)]
fn some<const ROWS: usize>(
    panel: &[Unit],
    rows: Rows<'_>,
    row: usize,
    next: &Next<'_>,
    put: &mut impl FnMut(usize, &mut [f32; OUTPUTS]),
) -> usize {
    // SAFETY: see the module.
    let mut sums = [[unsafe { _mm512_setzero_ps() }; UNITS]; ROWS];
    let mut these: [&[Chunk]; ROWS] = [&[]; ROWS];
    for i in 0..ROWS {
        these[i] = rows.row(row + i);
    }
    for (i, units) in panel.as_chunks::<UNITS>().0.iter().enumerate() {
        next.prefetch(row / TOGETHER, i);
        // Written out, so that the sums stay in registers.
        unit::<ROWS, 0>(&units[0], these, i, &mut sums);
        unit::<ROWS, 1>(&units[1], these, i, &mut sums);
        unit::<ROWS, 2>(&units[2], these, i, &mut sums);
        unit::<ROWS, 3>(&units[3], these, i, &mut sums);
    }
    for r in 0..ROWS {
        let mut numbers = [0.0; OUTPUTS];
        let [a, b, c, d] = sums[r];
        // SAFETY: see the module.
        unsafe {
            let sum = _mm512_add_ps(_mm512_add_ps(a, c), _mm512_add_ps(b, d));
            _mm512_storeu_ps(numbers.as_mut_ptr(), sum);
        }
        put(row + r, &mut numbers);
    }
    ROWS
}

/// Adds the products of unit U of chunk `i` of the rows.
#[inline(always)]
fn unit<const ROWS: usize, const U: usize>(
    unit: &Unit,
    rows: [&[Chunk]; ROWS],
    i: usize,
    sums: &mut [[__m512; UNITS]; ROWS],
) {
    for r in 0..ROWS {
        sums[r][U] = add(unit, &rows[r][i], U, sums[r][U]);
    }
}

/// Adds the products of unit `u` of a chunk.
#[inline(always)]
fn add(unit: &Unit, chunk: &Chunk, u: usize, sum: __m512) -> __m512 {
    let halves = [&chunk.codes[..CHUNK / 2], &chunk.codes[CHUNK / 2..]];
    // SAFETY: see the module.
    unsafe {
        let mut total = _mm512_set1_epi32(chunk.corrections[4 * u].wrapping_neg());
        for i in 0..UNIT / 4 {
            let codes = &halves[i / 4][16 * u + i % 4 * 4..][..4];
            let codes = i32::from_le_bytes([codes[0] as u8, codes[1] as u8, codes[2] as u8, codes[3] as u8]);
            let weights = _mm512_load_si512(unit.codes[i].0.as_ptr().cast());
            total = _mm512_dpbusd_epi32(total, weights, _mm512_set1_epi32(codes));
        }
        let scales = _mm512_mul_ps(_mm512_load_ps(unit.scales.as_ptr()), _mm512_set1_ps(chunk.scales[4 * u]));
        _mm512_add_ps(sum, _mm512_mul_ps(_mm512_cvtepi32_ps(total), scales))
    }
}

/// Fills the panel of outputs `output` … `output` + 15; those from `last` on are `last` − 1 once more.
#[inline(always)]
fn lay_out(matrix: &Matrix<'_>, (output, last): (usize, usize), panel: &mut [Unit]) {
    let bits = matrix.shape.bits;
    let (bytes, per_block) = (UNIT * bits.count() / 8, matrix.shape.block / UNIT);
    let blocks = matrix.shape.blocks();
    let at = |i: usize| (output + i).min(last - 1);
    let mut codes: [&[u8]; OUTPUTS] = [&[]; OUTPUTS];
    for i in 0..OUTPUTS {
        codes[i] = matrix.codes(at(i));
    }
    for (u, unit) in panel.iter_mut().enumerate() {
        if (u + 1) * bytes > codes[0].len() {
            unit.scales = [0.0; OUTPUTS];
            continue;
        }
        for i in 0..OUTPUTS {
            unit.scales[i] = matrix.scales[at(i) * blocks + u / per_block];
        }
        match bits {
            Bits::Four => {
                let low = turned(codes, u * bytes);
                for g in 0..4 {
                    // SAFETY: see the module.
                    unsafe {
                        let mask = _mm512_set1_epi8(15);
                        store(&mut unit.codes[g], _mm512_and_si512(low[g], mask));
                        store(&mut unit.codes[4 + g], _mm512_and_si512(_mm512_srli_epi16::<4>(low[g]), mask));
                    }
                }
            }
            Bits::Eight => {
                let (first, second) = (turned(codes, u * bytes), turned(codes, u * bytes + 16));
                for g in 0..4 {
                    store(&mut unit.codes[g], first[g]);
                    store(&mut unit.codes[4 + g], second[g]);
                }
            }
        }
    }
}

#[inline(always)]
fn store(to: &mut Four, x: __m512i) {
    // SAFETY: see the module.
    unsafe { _mm512_store_si512(to.0.as_mut_ptr().cast(), x) }
}

/// Of sixteen bytes of each output from `from` on, the first four of all outputs, the second four, the third and the last.
#[inline(always)]
fn turned(codes: [&[u8]; OUTPUTS], from: usize) -> [__m512i; 4] {
    // SAFETY: see the module.
    unsafe {
        let of = [
            lanes([codes[0], codes[4], codes[8], codes[12]], from),
            lanes([codes[1], codes[5], codes[9], codes[13]], from),
            lanes([codes[2], codes[6], codes[10], codes[14]], from),
            lanes([codes[3], codes[7], codes[11], codes[15]], from),
        ];
        let (ab, cd) = (_mm512_unpacklo_epi32(of[0], of[1]), _mm512_unpacklo_epi32(of[2], of[3]));
        let (ab_high, cd_high) = (_mm512_unpackhi_epi32(of[0], of[1]), _mm512_unpackhi_epi32(of[2], of[3]));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    }
}

/// Sixteen bytes of each of four outputs.
#[inline(always)]
fn lanes([a, b, c, d]: [&[u8]; 4], from: usize) -> __m512i {
    let (a, b, c, d) = (&a[from..][..16], &b[from..][..16], &c[from..][..16], &d[from..][..16]);
    // SAFETY: see the module.
    unsafe {
        let x = _mm512_castsi128_si512(_mm_loadu_si128(a.as_ptr().cast()));
        let x = _mm512_inserti32x4::<1>(x, _mm_loadu_si128(b.as_ptr().cast()));
        let x = _mm512_inserti32x4::<2>(x, _mm_loadu_si128(c.as_ptr().cast()));
        _mm512_inserti32x4::<3>(x, _mm_loadu_si128(d.as_ptr().cast()))
    }
}
