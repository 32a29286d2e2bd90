//! Which rows of a step go through the graph together, and the numbers that it is told of them.

use super::ledger::Placed;

/// Rows of a run at most.
pub(super) const MOST_ROWS: usize = 512;
/// What reading a text costs, in rows of a tile.
const TEXT_COST: usize = 64;
/// Inputs start at a multiple of it.
const ALIGNMENT: usize = 16;

/// Sizes of a run, each a power of two, so that few different ones come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Rows.
    pub(super) rows: usize,
    /// Tiles.
    pub(super) tiles: usize,
    /// Rows of a tile.
    pub(super) tile: usize,
    /// Places of images.
    pub(super) places: usize,
    /// Rows that are asked for logits.
    pub(super) logits: usize,
}

/// An input's name, its shape, and where it starts.
pub(super) type Input = (&'static str, Vec<i64>, usize);

/// The inputs of a run, one behind the other in one buffer, so that they reach the device together.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) numbers: Vec<i64>,
}

impl Shape {
    /// For rows in these places, `places` of which exist, `logits` of which are wanted.
    fn of(placed: &[Placed], tiles: &Tiles, places: usize, logits: usize) -> Self {
        let highest = placed.iter().filter_map(|row| row.image).max().unwrap_or(0);
        Self {
            rows: placed.len().next_power_of_two(),
            tiles: tiles.texts.len().next_power_of_two(),
            tile: tiles.size,
            places: (highest + 1).next_power_of_two().min(places),
            logits: logits.max(1).next_power_of_two(),
        }
    }

    /// Names, shapes and starts of the inputs, and where the last one ends.
    pub(super) fn layout(&self) -> (Vec<Input>, usize) {
        let Self { rows, tiles, tile, places, logits } = *self;
        let [rows, tiles, tile, places, logits] = [rows, tiles, tile, places, logits].map(|size| size as i64);
        let mut end = 0;
        let inputs = [
            ("token_ids", vec![rows]),
            ("positions", vec![rows]),
            ("ordinals", vec![rows]),
            ("texts", vec![rows]),
            ("firsts", vec![rows]),
            ("row_cells", vec![rows]),
            ("row_places", vec![rows]),
            ("logit_rows", vec![logits]),
            ("tile_texts", vec![tiles]),
            ("tile_rows", vec![tiles, tile]),
            ("place_rows", vec![places]),
        ];
        let inputs = inputs.map(|(name, shape)| {
            let start = end;
            end += (shape.iter().product::<i64>() as usize).next_multiple_of(ALIGNMENT);
            (name, shape, start)
        });
        (inputs.into(), end)
    }
}

impl Inputs {
    /// Tells `placed`, of whose rows `logits` are wanted; `places` places of images exist. What fills a power of two are tokens of the text in place 0, which
    /// nobody else has.
    pub(super) fn fill(&mut self, placed: &[Placed], logits: &[usize], places: usize) -> Shape {
        let tiles = Tiles::of(&placed.iter().map(|row| row.text).collect::<Vec<_>>());
        let shape = Shape::of(placed, &tiles, places, logits.len());
        let (inputs, end) = shape.layout();
        self.numbers.clear();
        self.numbers.resize(end, 0);
        let mut put = |name: &str, numbers: &mut dyn Iterator<Item = i64>| {
            let (_, _, start) = inputs.iter().find(|(known, ..)| *known == name).expect("the layout has all inputs");
            self.numbers[*start..].iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        };
        let mut of_rows = |name: &str, number: &dyn Fn(&Placed) -> i64| put(name, &mut placed.iter().map(number));
        of_rows("token_ids", &|row| i64::from(row.token));
        of_rows("positions", &|row| i64::from(row.position));
        of_rows("ordinals", &|row| i64::from(row.position) - row.first as i64);
        of_rows("texts", &|row| row.text as i64);
        of_rows("firsts", &|row| row.first as i64);
        of_rows("row_places", &|row| row.image.unwrap_or(0) as i64);
        put("row_cells", &mut tiles.cells.iter().map(|cell| *cell as i64));
        put("logit_rows", &mut logits.iter().map(|row| *row as i64));
        put("tile_texts", &mut tiles.texts.iter().map(|text| *text as i64));
        put("tile_rows", &mut tiles.rows.iter().map(|row| *row as i64));
        let mut place_rows = vec![0; shape.places];
        for (row, placed) in placed.iter().enumerate() {
            if let Some(place) = placed.image {
                place_rows[place] = row as i64;
            }
        }
        put("place_rows", &mut place_rows.into_iter());
        shape
    }
}

/// Rows of one text, side by side.
#[derive(Debug, PartialEq, Eq)]
struct Tiles {
    /// Rows of a tile.
    size: usize,
    /// Each tile's text.
    texts: Vec<usize>,
    /// Each tile's rows; what fills the last tile of a text is row 0.
    rows: Vec<usize>,
    /// Where in `rows` each row is.
    cells: Vec<usize>,
}

impl Tiles {
    /// Of rows with these texts: as large as pays, since a tile reads its text once, but costs as much as if it were full.
    fn of(texts: &[usize]) -> Self {
        let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
        for (row, text) in texts.iter().enumerate() {
            match groups.iter_mut().find(|(known, _)| known == text) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((*text, vec![row])),
            }
        }
        let count = |size: usize| groups.iter().map(|(_, rows)| rows.len().div_ceil(size)).sum::<usize>();
        let sizes = (0..=texts.len().next_power_of_two().ilog2()).map(|power| 1 << power);
        let size = sizes.min_by_key(|size| count(*size).next_power_of_two() * (TEXT_COST + size)).unwrap_or(1);
        let mut tiles = Self { size, texts: vec![], rows: vec![], cells: vec![0; texts.len()] };
        for (text, rows) in groups {
            for rows in rows.chunks(size) {
                for row in rows {
                    tiles.cells[*row] = tiles.rows.len();
                    tiles.rows.push(*row);
                }
                tiles.texts.push(text);
                tiles.rows.resize(tiles.texts.len() * size, 0);
            }
        }
        tiles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_text_lie_side_by_side() {
        let tiles = Tiles::of(&[3, 3, 5, 3]);
        assert_eq!((tiles.size, &*tiles.texts), (4, &[3, 5][..]));
        assert_eq!(tiles.rows, [0, 1, 3, 0, 2, 0, 0, 0]);
        assert_eq!(tiles.cells, [0, 1, 4, 2]);
    }

    #[test]
    fn tiles_are_as_large_as_pays() {
        let candidates = vec![1; 256];
        assert_eq!(Tiles::of(&candidates).texts, [1]);
        let strangers: Vec<usize> = (1..=64).collect();
        assert_eq!((Tiles::of(&strangers).size, Tiles::of(&strangers).texts.len()), (1, 64));
        let guided: Vec<usize> = (1..=8).chain([9; 64]).collect();
        let tiles = Tiles::of(&guided);
        assert!(tiles.size * tiles.texts.len() < 8 * guided.len(), "{tiles:?}");
        for (row, text) in guided.iter().enumerate() {
            assert_eq!((tiles.rows[tiles.cells[row]], tiles.texts[tiles.cells[row] / tiles.size]), (row, *text));
        }
    }

    #[test]
    fn inputs_are_filled_to_powers_of_two() {
        let row = |text, image, position| Placed { token: 7, position, first: 2, text, image };
        let mut inputs = Inputs::default();
        let shape = inputs.fill(&[row(1, Some(2), 9), row(1, None, 3), row(1, Some(0), 5)], &[2], 3);
        assert_eq!(shape, Shape { rows: 4, tiles: 1, tile: 4, places: 3, logits: 1 });
        let (layout, end) = shape.layout();
        assert_eq!(inputs.numbers.len(), end);
        let numbers = |name: &str| {
            let (_, shape, start) = layout.iter().find(|(known, ..)| *known == name).expect("an input");
            inputs.numbers[*start..][..shape.iter().product::<i64>() as usize].to_vec()
        };
        assert_eq!((numbers("token_ids"), numbers("ordinals")), (vec![7, 7, 7, 0], vec![7, 1, 3, 0]));
        assert_eq!((numbers("texts"), numbers("row_places")), (vec![1, 1, 1, 0], vec![2, 0, 0, 0]));
        assert_eq!((numbers("place_rows"), numbers("logit_rows")), (vec![2, 0, 0], vec![2]));
        assert_eq!((numbers("tile_rows"), numbers("tile_texts")), (vec![0, 1, 2, 0], vec![1]));
    }
}
