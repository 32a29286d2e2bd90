//! The products against their definition in f64, every way of computing them against the others, and the operator against ONNX Runtime's.
#![allow(clippy::unwrap_used)]

use super::{
    matrix::{Matrix, Shape},
    path::Path,
    product::Rows,
    row::{Unit, codes},
    *,
};
use crate::test::Random;

mod graph;

/// A matrix and rows of activations.
struct Case {
    shape: Shape,
    /// \[outputs, units · [`UNIT`]\], a byte each.
    codes: Vec<u8>,
    /// \[outputs, units\]
    scales: Vec<f32>,
    /// The same as it is given to the product.
    panels: Vec<u8>,
    bias: Option<Vec<f32>>,
    x: Vec<f32>,
}

impl Case {
    fn random(random: &mut Random, shape: Shape, rows: usize) -> Self {
        let Shape { inputs, outputs, bits } = shape;
        let floats = |random: &mut Random, count: usize| (0..count).map(|_| random.normal()).collect::<Vec<f32>>();
        let code = |_| random.next() as u8 >> (8 - bits.count());
        let codes = (0..outputs * shape.units() * UNIT).map(code).collect();
        let short = |scale: f32| f32::from_bits(scale.to_bits() & 0xffff_0000);
        let scales = floats(random, outputs * shape.units()).into_iter().map(short).collect();
        let bias = (random.below(2) == 0).then(|| floats(random, outputs));
        let mut case = Self { shape, codes, scales, panels: Vec::new(), bias, x: floats(random, rows * inputs) };
        case.lay_out();
        case
    }

    /// Makes the panels of the codes and scales.
    fn lay_out(&mut self) {
        let (units, each) = (self.shape.units(), self.shape.panel_bytes());
        let codes_bytes = UNIT * OUTPUTS * self.shape.bits.count() / 8;
        // What the matrix has not must not matter.
        self.panels = vec![0x5a; self.shape.panels() * each];
        for (output, codes) in self.codes.chunks(units * UNIT).enumerate() {
            let (panel, lane) = (&mut self.panels[output / OUTPUTS * each..][..each], output % OUTPUTS);
            for (input, code) in codes.iter().enumerate() {
                let (unit, four, i) = (input / UNIT, input % UNIT / 4, input % 4);
                let unit = &mut panel[unit * codes_bytes..];
                match self.shape.bits {
                    Bits::Eight => unit[64 * four + 4 * lane + i] = *code,
                    Bits::Four => {
                        let byte = &mut unit[64 * (four % 4) + 4 * lane + i];
                        *byte = if four < 4 { *byte & 0xf0 | code } else { *byte & 15 | code << 4 };
                    }
                }
            }
            for (unit, scale) in self.scales[output * units..][..units].iter().enumerate() {
                let place = units * codes_bytes + 2 * (unit * OUTPUTS + lane);
                panel[place..place + 2].copy_from_slice(&scale.to_le_bytes()[2..]);
            }
        }
    }

    fn any(random: &mut Random, rows: usize) -> Self {
        let bits = [Bits::Four, Bits::Eight][random.below(2)];
        let shape = Shape { inputs: 1 + random.below(520), outputs: 1 + random.below(70), bits };
        Self::random(random, shape, rows)
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix { shape: self.shape, panels: &self.panels, bias: self.bias.as_deref() }.check().unwrap()
    }

    /// The number at (output, input) of the matrix.
    fn weight(&self, output: usize, input: usize) -> f64 {
        let across = self.shape.units();
        let code = i32::from(self.codes[output * across * UNIT + input]) - self.shape.bits.zero();
        f64::from(code) * f64::from(self.scales[output * across + input / UNIT])
    }

    /// The result of the first `rows` rows, computed `piece` panels at a time.
    fn run(&self, path: Path, rows: usize, piece: usize) -> Vec<f32> {
        let Shape { inputs, outputs, bits } = self.shape;
        let (across, panels) = (self.shape.units(), self.shape.panels());
        let mut units = vec![Unit::ZERO; path.rows(rows) * across];
        for (x, units) in self.x[..rows * inputs].chunks(inputs).zip(units.chunks_mut(across)) {
            path.quantize(bits, x, units);
        }
        let y = vec![std::cell::Cell::new(f32::NAN); rows * outputs];
        for first in (0..panels).step_by(piece) {
            let some = (first, panels.min(first + piece));
            let rows = Rows { units: &units, across, count: rows };
            path.multiply(&self.matrix(), rows, some, |row, output, numbers: &[f32]| {
                let y = &y[row * outputs + output..][..numbers.len()];
                y.iter().zip(numbers).for_each(|(y, number)| y.set(*number));
            });
        }
        y.into_iter().map(std::cell::Cell::into_inner).collect()
    }

    /// For every number of the first row what it is in f64, what it would be with activations in 8 bits, and the most that these may lose, and that sums may.
    fn expected(&self) -> Vec<[f64; 4]> {
        let Shape { inputs, outputs, .. } = self.shape;
        let x = &self.x[..inputs];
        let units: Vec<_> = x
            .chunks(UNIT)
            .map(|unit| {
                let mut padded = [0.0; UNIT];
                padded[..unit.len()].copy_from_slice(unit);
                codes(&padded)
            })
            .collect();
        let output = |output: usize| {
            let bias = f64::from(self.bias.as_ref().map_or(0.0, |bias| bias[output]));
            let mut sums = [bias, bias, 0.0, bias.abs()];
            for (input, x) in x.iter().enumerate() {
                let (scale, codes) = &units[input / UNIT];
                let (weight, scale) = (self.weight(output, input), f64::from(*scale));
                let coded = weight * scale * f64::from(codes[input % UNIT]);
                let lost = weight.abs() * scale * 0.500_01;
                let terms = [weight * f64::from(*x), coded, lost, coded.abs()];
                sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
            }
            sums
        };
        (0..outputs).map(output).collect()
    }
}

#[test]
fn a_product_is_the_one_of_its_codes_and_no_further_from_the_exact_one_than_8_bits_allow() {
    let random = &mut Random(3);
    for _ in 0..200 {
        let case = Case::any(random, 1);
        let found = case.run(Path::here().next().unwrap(), 1, 9);
        for (found, [exact, coded, lost, all]) in found.iter().zip(case.expected()) {
            let found = f64::from(*found);
            assert!((found - coded).abs() <= 1e-6 * all, "{:?}: {found}, expected {coded}", case.shape);
            assert!((found - exact).abs() <= lost + 1e-6 * all, "{:?}: {found}, expected {exact}", case.shape);
        }
    }
}

#[test]
fn all_ways_and_numbers_of_rows_give_the_same_bits() {
    let random = &mut Random(5);
    for _ in 0..60 {
        let case = Case::any(random, 33);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let expected = bits(case.run(Path::here().last().unwrap(), 33, 1000));
        for path in Path::here() {
            for rows in 1..=33 {
                let piece = 1 + random.below(4);
                let found = bits(case.run(path, rows, piece));
                assert!(found == expected[..found.len()], "{path:?}, {rows} rows, {:?}", case.shape);
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_overflow() {
    for (bits, code) in [(Bits::Four, 15), (Bits::Four, 0), (Bits::Eight, 255), (Bits::Eight, 0)] {
        for x in [1.0, -1.0] {
            let mut case = Case::random(&mut Random(1), Shape { inputs: 256, outputs: 4, bits }, 16);
            case.bias = None;
            case.x.fill(x);
            case.scales.fill(1.0);
            case.codes.fill(code);
            case.lay_out();
            let expected = 256.0 * case.weight(0, 0) * f64::from(x);
            for path in Path::here() {
                for found in case.run(path, 16, 1) {
                    let apart = (f64::from(found) - expected).abs();
                    assert!(apart <= 1e-5 * expected.abs(), "{path:?}: {found}, expected {expected}");
                }
            }
        }
    }
}

#[test]
fn activations_that_are_not_finite_stay_in_their_row_and_tiny_ones_are_zeros() {
    let shape = Shape { inputs: 70, outputs: 5, bits: Bits::Four };
    let mut case = Case::random(&mut Random(7), shape, 4);
    (case.x[71], case.x[150]) = (f32::NAN, f32::NEG_INFINITY);
    case.x[210..].fill(f32::from_bits(3));
    let bias = case.bias.clone().unwrap_or_else(|| vec![0.0; 5]);
    for path in Path::here() {
        let found = case.run(path, 4, 1);
        assert!(found[..5].iter().all(|y| y.is_finite()), "{path:?}: {found:?}");
        assert!(found[5..15].iter().all(|y| y.is_nan()), "{path:?}: {found:?}");
        assert_eq!(found[15..], bias, "{path:?}");
    }
}

#[test]
fn a_matrix_that_is_not_as_large_as_its_shape_is_refused() {
    let case = Case::random(&mut Random(9), Shape { inputs: 70, outputs: 5, bits: Bits::Four }, 1);
    let (matrix, short) = (Matrix { bias: None, ..case.matrix() }, [0; 4]);
    let refused = |matrix: Matrix<'_>| matrix.check().unwrap_err();
    assert_eq!(refused(Matrix { panels: &short, ..matrix }), "panels: expected 864 bytes, found 4");
    assert_eq!(refused(Matrix { bias: Some(&case.scales[..4]), ..matrix }), "bias: expected 5 numbers, found 4");
}
