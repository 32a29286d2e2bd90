//! Which earlier image positions an image position sees (Ramesh et al. 2021, appendix B.1).

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
}

impl Mask {
    /// The mask called `name` in a graph.
    pub(crate) fn parse(name: &str, kernel: Option<i64>) -> Result<Self, String> {
        match (name, kernel) {
            ("full", _) => Ok(Self::Full),
            ("row", _) => Ok(Self::Row),
            ("column", _) => Ok(Self::Column),
            ("conv", Some(kernel @ 1..=65535)) => Ok(Self::Convolution(kernel as usize)),
            ("conv", kernel) => Err(format!("kernel: expected 1 … 65535, found {kernel:?}")),
            _ => Err(format!("mask: expected full, row, column or conv, found {name:?}")),
        }
    }

    /// The image positions that position `q` of a grid of this many columns sees, itself included.
    pub(crate) fn runs(self, columns: usize, q: usize) -> Runs {
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
        };
        Runs { start, length, stride: columns, count, end: q + 1 }
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
}

impl Runs {
    /// No position.
    pub(crate) const NONE: Self = Self { start: 0, length: 0, stride: 0, count: 0, end: 0 };

    /// The runs, rising.
    #[inline(always)]
    pub(crate) fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).map(move |i| {
            let start = self.start + i * self.stride;
            start..(start + self.length).min(self.end)
        })
    }

    /// How many positions.
    #[inline(always)]
    pub(crate) fn positions(self) -> usize {
        self.ranges().map(|run| run.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sees(mask: Mask, columns: usize, q: usize, k: usize) -> bool {
        let distance = |a: usize, b: usize| a.abs_diff(b);
        k <= q
            && match mask {
                Mask::Full => true,
                Mask::Row => q - k <= columns,
                Mask::Column => (q - k).is_multiple_of(columns),
                Mask::Convolution(kernel) => {
                    distance(q / columns, k / columns) <= kernel / 2 && distance(q % columns, k % columns) <= kernel / 2
                }
            }
    }

    #[test]
    fn runs_are_the_positions_of_the_definition() {
        let masks =
            [Mask::Full, Mask::Row, Mask::Column, Mask::Convolution(1), Mask::Convolution(3), Mask::Convolution(11)];
        for (rows, columns) in [(1, 1), (1, 9), (9, 1), (4, 7), (8, 8), (13, 5)] {
            for mask in masks {
                for q in 0..rows * columns {
                    let expected: Vec<usize> = (0..rows * columns).filter(|&k| sees(mask, columns, q, k)).collect();
                    let found: Vec<usize> = mask.runs(columns, q).ranges().flatten().collect();
                    assert_eq!(found, expected, "{mask:?}, {rows} × {columns}, position {q}");
                    assert_eq!(mask.runs(columns, q).positions(), expected.len());
                }
            }
        }
    }
}
