//! Attention by operators that every provider of ONNX Runtime has, for CUDA (contract `easel.sampler.cuda/1`).
//!
//! A row's scores are made in two parts, against its text and against its image, and meet in one softmax. A text is multiplied with all the rows of a tile
//! at once, so that candidates of a caption share the reading of it; an image is read where it lies, since rows are brought into the order of the places, not
//! places into that of rows. An image keeps no more entries than its mask can see: rings for rows and squares, a bin for every column. The last entries of
//! each place are read by nobody: there the tokens write that have no business in that part.

use super::Geometry;
use crate::{
    Error, Mask,
    graph::{Attribute, Axis, Graph, MICROSOFT_DOMAIN, Value},
    onnx::DataType,
    tensor::Tensor,
};

/// Entries are a multiple of it, which products in 16 bits are faster with.
const ENTRIES: usize = 4;

/// What all layers have in common.
pub(super) struct Stock {
    tile_texts: Value,
    tile_rows: Value,
    row_cells: Value,
    place_rows: Value,
    row_places: Value,
    /// Whether a row is of the image, \[n\].
    is_image: Value,
    /// 1 for rows of the image, else 0, \[n, 1\].
    of_image: Value,
    /// Image positions as the mask counts them, \[n\]; below 0 for text.
    cells: Value,
    text: Part,
    images: Vec<(Mask, Part)>,
}

/// One of the two parts: what its rows write and see.
#[derive(Clone)]
struct Part {
    entries: usize,
    /// Where the rows write, \[n, heads, 3\]: place or bin, head, entry.
    writes: Value,
    /// 0 where a row sees an entry, else a number that no softmax survives, \[n, 1, entries\].
    biases: Value,
    /// The bin that each place's row reads, \[p\]; none: a place is one bin.
    bins: Option<Value>,
}

impl Stock {
    pub(super) fn new(graph: &mut Graph, g: &Geometry, positions: &Value) -> Result<Self, Error> {
        let mut input = |name: &str, shape: &[Axis]| graph.input(name, DataType::Int64, shape);
        let n = [Axis::Free("n")];
        let (texts, firsts) = (input("texts", &n), input("firsts", &n));
        let tile_texts = input("tile_texts", &[Axis::Free("g")]);
        let tile_rows = input("tile_rows", &[Axis::Free("g"), Axis::Free("r")]);
        let (row_cells, row_places) = (input("row_cells", &n), input("row_places", &n));
        let place_rows = input("place_rows", &[Axis::Free("p")]);
        graph.note("easel.text_positions", g.mask_text_length);
        graph.scope("attention");
        let first_image = graph.int(g.mask_text_length as i64)?;
        let is_image = graph.op("GreaterOrEqual", &[positions, &first_image], &[]);
        let cells = graph.op("Sub", &[positions, &first_image], &[]);
        let of_image = graph.cast(&is_image, graph.data_type());
        let of_image = graph.reshape(&of_image, &[-1, 1])?;
        let spare = first_image;
        let entry = graph.op("Where", &[&is_image, &spare, positions], &[]);
        let last = graph.int(g.mask_text_length as i64 - 1)?;
        let last = graph.op("Where", &[&is_image, &last, positions], &[]);
        let entries = entries(g.mask_text_length);
        let seen = between(graph, entries, &firsts, &last)?;
        let biases = biases(graph, &seen, entries)?;
        let text = Part { entries, writes: writes(graph, g, &texts, &entry)?, biases, bins: None };
        let images = vec![];
        Ok(Self { tile_texts, tile_rows, row_cells, place_rows, row_places, is_image, of_image, cells, text, images })
    }

    /// Stores the rows' keys and values of a layer, and makes their contexts.
    pub(super) fn attend(
        &mut self,
        graph: &mut Graph,
        g: &Geometry,
        (layer, mask): (usize, Mask),
        [query, key, value]: [&Value; 3],
    ) -> Result<Value, Error> {
        let image = self.image(graph, g, mask)?;
        let head_width = g.head_width;
        let scale = graph.computed(&Tensor::new("scale", &[1], vec![g.attention_scale]))?;
        let query = graph.narrowed(query);
        let query = graph.mul(&query, &scale);
        let texts = keep(graph, g, &self.text, ("text", "t"), layer, [key, value])?;
        let prefix = if image.bins.is_some() { ("column", "p * columns") } else { ("image", "p") };
        let images = keep(graph, g, &image, prefix, layer, [key, value])?;
        let [text_keys, text_values] = texts.map(|all| graph.gather(&all, &self.tile_texts));
        let [image_keys, image_values] =
            images.map(|all| image.bins.as_ref().map_or(all.clone(), |bins| graph.gather(&all, bins)));

        let queries = self.to_tiles(graph, g, &query, head_width)?;
        let scores = products(graph, &queries, &text_keys, true);
        let of_texts = self.rows_of_tiles(graph, g, &scores, &[-1, g.query_heads as i64, self.text.entries as i64])?;
        let queries = self.to_places(graph, g, &query, head_width)?;
        let scores = products(graph, &queries, &image_keys, true);
        let of_images = self.rows_of_places(graph, &scores, &[-1, g.query_heads as i64, image.entries as i64])?;

        let along = [("axis", Attribute::Int(2))];
        let scores = graph.op("Concat", &[&of_texts, &of_images], &along);
        let seen = graph.op("Concat", &[&self.text.biases, &image.biases], &along);
        let scores = graph.add(&scores, &seen);
        let weights = graph.op("Softmax", &[&scores], &[("axis", Attribute::Int(-1))]);
        let sizes = graph.ints(&[self.text.entries as i64, image.entries as i64])?;
        let [of_texts, of_images] = graph.op_of("Split", &[&weights, &sizes], &along);

        let flat = [-1, (g.query_heads * head_width) as i64];
        let weights = self.to_tiles(graph, g, &of_texts, self.text.entries)?;
        let contexts = products(graph, &weights, &text_values, false);
        let from_texts = self.rows_of_tiles(graph, g, &contexts, &flat)?;
        let weights = self.to_places(graph, g, &of_images, image.entries)?;
        let contexts = products(graph, &weights, &image_values, false);
        let from_images = self.rows_of_places(graph, &contexts, &flat)?;
        let from_images = graph.mul(&from_images, &self.of_image);
        Ok(graph.add(&from_texts, &from_images))
    }

    /// Rows \[n, query heads · width\], of whatever axes, as \[g, heads, r · query heads of a key, width\].
    fn to_tiles(&self, graph: &mut Graph, g: &Geometry, rows: &Value, width: usize) -> Result<Value, Error> {
        let shared = (g.query_heads / g.heads) as i64;
        let tiles = graph.gather(rows, &self.tile_rows);
        let tiles = graph.reshape(&tiles, &[0, 0, g.heads as i64, shared, width as i64])?;
        let tiles = graph.transpose(&tiles, &[0, 2, 1, 3, 4]);
        graph.reshape(&tiles, &[0, 0, -1, width as i64])
    }

    /// The way back, to rows of the axes `shape`.
    fn rows_of_tiles(&self, graph: &mut Graph, g: &Geometry, tiles: &Value, shape: &[i64]) -> Result<Value, Error> {
        let shared = (g.query_heads / g.heads) as i64;
        let width = shape.iter().skip(1).product::<i64>() / g.query_heads as i64;
        let tiles = graph.reshape(tiles, &[0, 0, -1, shared, width])?;
        let tiles = graph.transpose(&tiles, &[0, 2, 1, 3, 4]);
        let cells = graph.reshape(&tiles, shape)?;
        Ok(graph.gather(&cells, &self.row_cells))
    }

    /// Rows \[n, query heads · width\], of whatever axes, as \[p, heads, query heads of a key, width\].
    fn to_places(&self, graph: &mut Graph, g: &Geometry, rows: &Value, width: usize) -> Result<Value, Error> {
        let places = graph.gather(rows, &self.place_rows);
        graph.reshape(&places, &[-1, g.heads as i64, (g.query_heads / g.heads) as i64, width as i64])
    }

    /// The way back, to rows of the axes `shape`.
    fn rows_of_places(&self, graph: &mut Graph, places: &Value, shape: &[i64]) -> Result<Value, Error> {
        let places = graph.reshape(places, shape)?;
        Ok(graph.gather(&places, &self.row_places))
    }

    /// What rows write and see of an image through `mask`; layers of one mask share it.
    fn image(&mut self, graph: &mut Graph, g: &Geometry, mask: Mask) -> Result<Part, Error> {
        if let Some((_, part)) = self.images.iter().find(|(known, _)| *known == mask) {
            return Ok(part.clone());
        }
        let cells = g.rows * g.columns + g.text_length - g.mask_text_length;
        let (columns, half) = (g.columns, g.kernel / 2);
        let kept = match mask {
            Mask::Full | Mask::Torus => cells,
            Mask::Row => columns + 1,
            Mask::AxialRow => columns,
            Mask::Column => cells.div_ceil(columns),
            Mask::Conv => half * columns + half + 1,
            Mask::Corner => (g.kernel - 1) * columns + g.kernel,
        };
        let kept = kept.min(cells);
        let all = entries(kept);
        let (ring, width) = (graph.int(kept as i64)?, graph.int(columns as i64)?);
        let column = graph.op("Mod", &[&self.cells, &width], &[]);
        let row = graph.op("Div", &[&self.cells, &width], &[]);
        let in_ring = graph.op("Mod", &[&self.cells, &ring], &[]);
        let (entry, last) = match mask {
            Mask::Full | Mask::Row => (in_ring, self.cells.clone()),
            Mask::AxialRow => (column.clone(), column.clone()),
            Mask::Column => (row.clone(), row),
            Mask::Conv | Mask::Corner | Mask::Torus => (in_ring, self.cells.clone()),
        };
        let biases = match mask {
            Mask::Conv | Mask::Corner | Mask::Torus => self.square(graph, g, mask, [cells, kept, all])?,
            _ => {
                let none = graph.int(-1)?;
                let ring = graph.int(kept as i64 - 1)?;
                let last = graph.op("Min", &[&last, &ring], &[]);
                let last = graph.op("Where", &[&self.is_image, &last, &none], &[]);
                let first = graph.op("Sub", &[&last, &last], &[]);
                let seen = between(graph, all, &first, &last)?;
                biases(graph, &seen, all)?
            }
        };
        let spare = graph.int(kept as i64)?;
        let entry = graph.op("Where", &[&self.is_image, &entry, &spare], &[]);
        let (mut place, mut bins) = (self.row_places.clone(), None);
        if mask == Mask::Column {
            let start = graph.mul(&self.row_places, &width);
            place = graph.add(&start, &column);
            bins = Some(graph.gather(&place, &self.place_rows));
        }
        let part = Part { entries: all, writes: writes(graph, g, &place, &entry)?, biases, bins };
        self.images.push((mask, part.clone()));
        Ok(part)
    }

    /// Biases of masks that see squares, from a table of what each position sees of the ring at its time.
    fn square(
        &self,
        graph: &mut Graph,
        g: &Geometry,
        mask: Mask,
        [cells, kept, all]: [usize; 3],
    ) -> Result<Value, Error> {
        let sees = |q: usize, p: usize| {
            let (down, right) = (q / g.columns - p / g.columns, (q % g.columns).wrapping_sub(p % g.columns));
            match mask {
                Mask::Corner => down < g.kernel && right < g.kernel,
                Mask::Torus => {
                    let near = |distance: usize, length: usize| distance.min(length - distance) <= g.kernel / 2;
                    near(down, g.rows) && near((q % g.columns).abs_diff(p % g.columns), g.columns)
                }
                _ => down <= g.kernel / 2 && (q % g.columns).abs_diff(p % g.columns) <= g.kernel / 2,
            }
        };
        let bias = |q: usize, entry: usize| {
            let behind = (q + kept - entry.min(kept)) % kept;
            let seen = entry < kept && q < cells && q.checked_sub(behind).is_some_and(|p| sees(q, p));
            if seen { 0.0 } else { unseen(graph.data_type()) }
        };
        let table = (0..=cells).flat_map(|q| (0..all).map(move |entry| (q, entry))).map(|(q, entry)| bias(q, entry));
        let table = Tensor::new("seen", &[cells + 1, all], table.collect());
        let table = graph.computed(&table)?;
        let none = graph.int(cells as i64)?;
        let row = graph.op("Where", &[&self.is_image, &self.cells, &none], &[]);
        let biases = graph.gather(&table, &row);
        graph.reshape(&biases, &[-1, 1, all as i64])
    }
}

/// Entries of a place for so many that are read: at least one more.
fn entries(read: usize) -> usize {
    (read + 1).next_multiple_of(ENTRIES)
}

/// Far below any score.
fn unseen(data_type: DataType) -> f32 {
    if data_type == DataType::Float16 { -60000.0 } else { -1e30 }
}

/// Whether entries are among first … last, \[n, entries\].
fn between(graph: &mut Graph, entries: usize, first: &Value, last: &Value) -> Result<Value, Error> {
    let all = graph.ints(&(0..entries as i64).collect::<Vec<_>>())?;
    let (first, last) = (graph.reshape(first, &[-1, 1])?, graph.reshape(last, &[-1, 1])?);
    let (from, to) = (graph.op("GreaterOrEqual", &[&all, &first], &[]), graph.op("LessOrEqual", &[&all, &last], &[]));
    Ok(graph.op("And", &[&from, &to], &[]))
}

/// \[n, entries\] → \[n, 1, entries\]
fn biases(graph: &mut Graph, seen: &Value, entries: usize) -> Result<Value, Error> {
    let lowest = unseen(graph.data_type());
    let mut number = |value| graph.computed(&Tensor::new("bias", &[1], vec![value]));
    let (zero, lowest) = (number(0.0)?, number(lowest)?);
    let biases = graph.op("Where", &[seen, &zero, &lowest], &[]);
    graph.reshape(&biases, &[-1, 1, entries as i64])
}

/// \[n\] and \[n\] → \[n, heads, 3\]: place, head, entry.
fn writes(graph: &mut Graph, g: &Geometry, places: &Value, entries: &Value) -> Result<Value, Error> {
    let heads: Vec<i64> = (0..g.heads as i64).collect();
    let (heads, zeros) = (graph.ints(&heads)?, graph.ints(&vec![0; g.heads])?);
    let spread = |graph: &mut Graph, x: &Value, by: &Value| {
        let x = graph.reshape(x, &[-1, 1])?;
        let x = graph.add(&x, by);
        graph.reshape(&x, &[-1, g.heads as i64, 1])
    };
    let none = graph.op("Sub", &[places, places], &[]);
    let parts = [spread(graph, places, &zeros)?, spread(graph, &none, &heads)?, spread(graph, entries, &zeros)?];
    Ok(graph.op("Concat", &parts.each_ref(), &[("axis", Attribute::Int(2))]))
}

/// Stores rows' keys and values in a layer's places, which come in and go out under the names that begin with `prefix`.
fn keep(
    graph: &mut Graph,
    g: &Geometry,
    part: &Part,
    (prefix, places): (&str, &'static str),
    layer: usize,
    rows: [&Value; 2],
) -> Result<[Value; 2], Error> {
    let data_type = graph.data_type();
    let shape = [Axis::Free(places), Axis::Of(g.heads), Axis::Of(part.entries), Axis::Of(g.head_width)];
    let mut keep = |what: &str, rows: &Value| {
        let name = format!("{prefix}_{what}.{layer}");
        let before = graph.input(&name, data_type, &shape);
        let rows = graph.narrowed(rows);
        let rows = graph.reshape(&rows, &[0, g.heads as i64, g.head_width as i64])?;
        Ok::<_, Error>(graph.output_op(
            "ScatterND",
            &[&before, &part.writes, &rows],
            &format!("{name}.next"),
            data_type,
            &shape,
        ))
    };
    Ok([keep("keys", rows[0])?, keep("values", rows[1])?])
}

/// a · b, or a · bᵀ, of the last two axes.
fn products(graph: &mut Graph, a: &Value, b: &Value, transposed: bool) -> Value {
    let attributes = [("transB", Attribute::Int(i64::from(transposed)))];
    graph.op_in(MICROSOFT_DOMAIN, "FusedMatMul", &[a, b], &attributes)
}
