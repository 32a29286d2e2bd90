//! Which earlier image positions an image position sees (Ramesh et al. 2021, appendix B.1; dalle-pytorch, attention.py).

use std::ops::Range;

/// An attention mask over the image grid, in raster order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All.
    Full,
    /// The row so far, and the one above from the same column on.
    Row,
    /// The column so far.
    Column,
    /// A square of this many rows and columns around the position.
    Convolution(usize),
    /// The row so far, and no other.
    AxialRow,
    /// A square of this many rows and columns with the position in its last corner.
    Corner(usize),
    /// A square of this many rows and columns around the position, on a grid whose opposite edges meet (ruDALL-E's version 2).
    Torus(usize),
}

impl Mask {
    /// The mask called `name` in a graph.
    pub(crate) fn parse(name: &str, kernel: Option<i64>) -> Result<Self, String> {
        let kernel = kernel.map_or(Err("none".to_owned()), |kernel| match kernel {
            1..=65535 => Ok(kernel as usize),
            _ => Err(kernel.to_string()),
        });
        let kernel = kernel.map_err(|found| format!("kernel: expected 1 … 65535, found {found}"));
        match name {
            "full" => Ok(Self::Full),
            "row" => Ok(Self::Row),
            "column" => Ok(Self::Column),
            "conv" => kernel.map(Self::Convolution),
            "axial_row" => Ok(Self::AxialRow),
            "corner" => kernel.map(Self::Corner),
            "torus" => kernel.map(Self::Torus),
            _ => Err(format!("mask: expected full, row, column, conv, axial_row, corner or torus, found {name:?}")),
        }
    }

    /// The image positions that position `q` of a grid of \[rows, columns\] sees, itself included.
    pub(crate) fn runs(self, [rows, columns]: [usize; 2], q: usize) -> Runs {
        let (row, column) = (q / columns, q % columns);
        let (start, length, count) = match self {
            Self::Full => (0, q + 1, 1),
            Self::Row => (q.saturating_sub(columns), columns + 1, 1),
            Self::Column => (column, 1, row + 1),
            Self::Convolution(kernel) => {
                let top = row.saturating_sub(kernel / 2);
                let left = column.saturating_sub(kernel / 2);
                let right = (column + kernel / 2).min(columns - 1);
                (top * columns + left, right - left + 1, row - top + 1)
            }
            Self::AxialRow => (row * columns, columns, 1),
            Self::Corner(kernel) => {
                let (top, left) = ((row + 1).saturating_sub(kernel), (column + 1).saturating_sub(kernel));
                (top * columns + left, column - left + 1, row - top + 1)
            }
            Self::Torus(kernel) => {
                return Runs { torus: Some(Torus { rows, columns, half: kernel / 2, q }), ..Runs::NONE };
            }
        };
        Runs { start, length, stride: columns, count, end: q + 1, torus: None }
    }

    /// How many positions back a position sees at most, on a grid of this many columns; none: all the way.
    pub(crate) fn reach(self, columns: usize) -> Option<usize> {
        match self {
            Self::Full | Self::Column | Self::Torus(_) => None,
            Self::Row => Some(columns),
            Self::Convolution(kernel) => Some(kernel / 2 * (columns + 1)),
            Self::AxialRow => Some(columns - 1),
            Self::Corner(kernel) => Some((kernel - 1) * (columns + 1)),
        }
    }
}

/// Runs of consecutive positions at equal distances; the last is cut at the position that looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    start: usize,
    length: usize,
    stride: usize,
    count: usize,
    end: usize,
    torus: Option<Torus>,
}

impl Runs {
    /// No position.
    pub(crate) const NONE: Self = Self { start: 0, length: 0, stride: 0, count: 0, end: 0, torus: None };

    /// The runs, rising.
    #[inline(always)]
    pub(crate) fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let plain = (0..self.count).map(move |i| {
            let start = self.start + i * self.stride;
            start..(start + self.length).min(self.end)
        });
        plain.chain(self.torus.into_iter().flat_map(Torus::ranges))
    }
}

/// A square around position `q` that goes on at the opposite edge.
#[derive(Clone, Copy, Debug)]
struct Torus {
    rows: usize,
    columns: usize,
    half: usize,
    q: usize,
}

impl Torus {
    /// The runs, rising: of every row as far as `q`, what is left and right of where the square is interrupted.
    fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let Self { rows, columns, half, q } = self;
        let (row, column) = (q / columns, q % columns);
        let near = row.saturating_sub(half)..row + 1;
        let over = (row + half + 1).saturating_sub(rows).min(near.start);
        let sides = match column {
            _ if 2 * half + 1 >= columns => [0..columns, 0..0],
            _ if column < half => [0..column + half + 1, column + columns - half..columns],
            _ if column + half >= columns => [0..column + half + 1 - columns, column - half..columns],
            _ => [column - half..column + half + 1, 0..0],
        };
        let in_row = move |row: usize| {
            let start = row * columns;
            sides.clone().map(|side| start + side.start..(start + side.end).min(q + 1))
        };
        (0..over).chain(near).flat_map(in_row).filter(|run| !run.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(mask: Mask, [rows, columns]: [usize; 2], q: usize, k: usize) -> bool {
        let distance = |a: usize, b: usize| a.abs_diff(b);
        k <= q
            && match mask {
                Mask::Full => true,
                Mask::Row => q - k <= columns,
                Mask::Column => (q - k).is_multiple_of(columns),
                Mask::AxialRow => q / columns == k / columns,
                Mask::Corner(kernel) => {
                    q / columns - k / columns < kernel
                        && k % columns <= q % columns
                        && q % columns - k % columns < kernel
                }
                Mask::Convolution(kernel) => {
                    distance(q / columns, k / columns) <= kernel / 2 && distance(q % columns, k % columns) <= kernel / 2
                }
                Mask::Torus(kernel) => {
                    let near = |distance: usize, length: usize| distance.min(length - distance) <= kernel / 2;
                    near(q / columns - k / columns, rows) && near(distance(q % columns, k % columns), columns)
                }
            }
    }

    #[test]
    fn runs_are_the_positions_of_the_definition() {
        let of_side = |kernel| [Mask::Convolution(kernel), Mask::Corner(kernel), Mask::Torus(kernel)];
        let squares = [1, 3, 5, 11].into_iter().flat_map(of_side);
        let masks: Vec<Mask> =
            [Mask::Full, Mask::Row, Mask::Column, Mask::AxialRow].into_iter().chain(squares).collect();
        for (rows, columns) in [(1, 1), (1, 9), (9, 1), (4, 7), (8, 8), (13, 5)] {
            for &mask in &masks {
                for q in 0..rows * columns {
                    let expected: Vec<usize> =
                        (0..rows * columns).filter(|&k| sees(mask, [rows, columns], q, k)).collect();
                    let found: Vec<usize> = mask.runs([rows, columns], q).ranges().flatten().collect();
                    assert_eq!(found, expected, "{mask:?}, {rows} × {columns}, position {q}");
                    let back = q - expected[0];
                    assert!(mask.reach(columns).is_none_or(|reach| back <= reach), "{mask:?}: {back} back");
                }
            }
        }
    }
}
