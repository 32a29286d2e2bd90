//! Partial grids as pictures.

use easel_package::{Grid, Size};

/// What the cells that are not drawn yet look like.
pub(crate) const GREY: u8 = 128;

/// A grid whose first cells are `known` (at least one), completed for the decoder: an unknown cell takes the token above it, or, in the first row,
/// the last known one. The decoder smears over the borders of cells, and such neighbours disturb the least.
pub(crate) fn fill(known: &[u32], grid: Grid) -> Vec<u32> {
    let (cells, columns) = (grid.cells(), grid.columns as usize);
    let mut tokens = Vec::with_capacity(cells);
    tokens.extend_from_slice(known);
    for cell in known.len()..cells {
        tokens.push(tokens[if cell < columns { known.len() - 1 } else { cell - columns }]);
    }
    tokens
}

/// Paints all but the first `known` cells of a picture flat grey. Only whole cells are touched.
pub(crate) fn paint_unknown(pixels: &mut [u8], known: usize, grid: Grid, size: Size) {
    let (columns, stride) = (grid.columns as usize, size.width as usize * 3);
    for cell in known..grid.cells() {
        let rows = part(cell / columns, grid.rows, size.height);
        let across = part(cell % columns, grid.columns, size.width);
        for row in rows {
            pixels[row * stride..][across.start * 3..across.end * 3].fill(GREY);
        }
    }
}

/// The pixels of the `index`th of `parts` equal parts of a side.
fn part(index: usize, parts: u32, side: u32) -> std::ops::Range<usize> {
    let edge = |i: usize| i * side as usize / parts as usize;
    edge(index)..edge(index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Grid = Grid { rows: 3, columns: 2 };

    #[test]
    fn unknown_cells_take_the_token_above() {
        assert_eq!(fill(&[7], GRID), [7, 7, 7, 7, 7, 7]);
        assert_eq!(fill(&[7, 8], GRID), [7, 8, 7, 8, 7, 8]);
        assert_eq!(fill(&[7, 8, 9], GRID), [7, 8, 9, 8, 9, 8]);
        assert_eq!(fill(&[1, 2, 3, 4, 5, 6], GRID), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn exactly_the_unknown_cells_are_grey() {
        // Cells of 2 × 1 pixels.
        let size = Size { width: 4, height: 3 };
        let mut pixels = vec![1; 4 * 3 * 3];
        paint_unknown(&mut pixels, 3, GRID, size);
        let grey: Vec<bool> = pixels.chunks_exact(3).map(|pixel| pixel == [GREY; 3]).collect();
        let (o, x) = (false, true);
        assert_eq!(grey, [o, o, o, o, o, o, x, x, x, x, x, x]);
        let mut whole = vec![1; 36];
        paint_unknown(&mut whole, 6, GRID, size);
        assert_eq!(whole, [1; 36]);
    }

    #[test]
    fn a_side_that_cells_do_not_divide_is_covered() {
        let edges: Vec<_> = (0..3).map(|i| part(i, 3, 8)).collect();
        assert_eq!(edges, [0..2, 2..5, 5..8]);
    }
}
