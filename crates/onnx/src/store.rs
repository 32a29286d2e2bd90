//! Where keys, values and what is shifted lie in memory.
//!
//! A sequence is kept in two parts, text and image, so that sequences which share a text take no memory for it, and those that only lend their text none for
//! an image. A part is \[layers, heads, key or value, places, padded width\]: what a task reads, one head of one layer, is contiguous. A text position's
//! place is the position; an image position's depends on what the layer's mask can still see ([`Order`]).

use crate::{
    Error, Precision,
    attend::{Planes, Span},
    mask::Mask,
    pool::Geometry,
    vector::{LANES, Number},
};

/// Rows of one sequence that can be written before the first of them has read, in a layer that keeps few positions; so many can also be taken back.
pub(crate) const WAVE: usize = 16;

/// Where the image positions of a layer lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Raster order, in a ring of this many places: later positions take the places of those that no mask reaches any more.
    Ring(usize),
    /// Column by column, so that what a column mask reads is contiguous.
    Columns,
}

/// A part of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text,
    Image,
}

/// The places of what is kept of every sequence.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    geometry: Geometry,
    precision: Precision,
    orders: Vec<Order>,
    /// Image places of the layers before, and of all.
    starts: Vec<usize>,
}

impl Layout {
    /// All positions of all layers; [`Layout::keep`] makes them fewer.
    pub(crate) fn new(geometry: Geometry, precision: Precision) -> Self {
        let orders = vec![Order::Ring(geometry.cells()); geometry.layers];
        let mut layout = Self { geometry, precision, orders, starts: Vec::new() };
        layout.place();
        layout
    }

    /// Keeps of a layer only what `mask` can see.
    pub(crate) fn keep(&mut self, layer: usize, mask: Mask) {
        let Geometry { columns, .. } = self.geometry;
        let cells = self.geometry.cells();
        let ring = |reach: usize| Order::Ring(reach.saturating_add(WAVE).min(cells));
        self.orders[layer] = match mask {
            Mask::Column => Order::Columns,
            _ => mask.reach(columns).map_or(Order::Ring(cells), ring),
        };
        self.place();
    }

    fn place(&mut self) {
        let cells = self.geometry.cells();
        self.starts = vec![0];
        for order in &self.orders {
            let places = if let Order::Ring(places) = order { *places } else { cells };
            self.starts.push(self.starts.last().map_or(0, |start| start.saturating_add(places)));
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether a layer keeps every image position.
    pub(crate) fn keeps_all(&self, layer: usize) -> bool {
        self.starts[layer + 1] - self.starts[layer] == self.geometry.cells()
    }

    /// Which part a position belongs to, and its number there.
    pub(crate) fn part(&self, position: usize) -> (Part, usize) {
        match position.checked_sub(self.geometry.text_length) {
            None => (Part::Text, position),
            Some(position) => (Part::Image, position),
        }
    }

    /// The place of a position in its part, whose positions are counted from 0.
    fn place_of(&self, part: Part, layer: usize, position: usize) -> usize {
        let Geometry { rows, columns, .. } = self.geometry;
        match (part, self.orders[layer]) {
            (Part::Text, _) => position,
            (Part::Image, Order::Ring(places)) => position % places,
            (Part::Image, Order::Columns) => position % columns * rows + position / columns,
        }
    }

    /// Adds the places of `positions` of a layer to `spans`, which hold a row's so far from `begin` on.
    pub(crate) fn push(&self, layer: usize, positions: std::ops::Range<usize>, begin: usize, spans: &mut Vec<Span>) {
        let mut push = |image, start, length| match spans[begin..].last_mut() {
            Some(last) if last.image == image && last.start + last.length == start => last.length += length,
            _ => spans.push(Span { image, start, length }),
        };
        let text = self.geometry.text_length;
        let (start, end) = (positions.start.max(text) - text, positions.end.max(text) - text);
        if positions.start < text {
            push(false, positions.start, positions.end.min(text) - positions.start);
        }
        match self.orders[layer] {
            _ if start == end => {}
            Order::Ring(places) => {
                let (first, length) = (start % places, end - start);
                let straight = length.min(places - first);
                push(true, first, straight);
                if length > straight {
                    push(true, 0, length - straight);
                }
            }
            Order::Columns => (start..end).for_each(|p| push(true, self.place_of(Part::Image, layer, p), 1)),
        }
    }

    /// Places of a head of a layer, and of all heads of the layers before it.
    fn places(&self, part: Part, layer: usize) -> (usize, usize) {
        let Geometry { heads, text_length, .. } = self.geometry;
        match part {
            Part::Text => (text_length, layer * heads * text_length),
            Part::Image => (self.starts[layer + 1] - self.starts[layer], heads * self.starts[layer]),
        }
    }

    /// Where a head's keys begin, and how many numbers they are; as many values follow.
    fn plane(&self, part: Part, layer: usize, head: usize) -> (usize, usize) {
        let (places, before) = self.places(part, layer);
        let width = self.geometry.padded_width();
        (2 * (before + head * places) * width, places * width)
    }

    /// Numbers of keys and values, and of what is shifted; none: more than a machine can count.
    fn numbers(&self, part: Part) -> Option<[usize; 2]> {
        let Geometry { heads, shifts, shift_width, layers, text_length, .. } = self.geometry;
        let (places, shifted) = match part {
            Part::Text => (layers.checked_mul(text_length)?, text_length),
            Part::Image => (*self.starts.last()?, self.shift_ring()),
        };
        let keys_values = places.checked_mul(2 * heads)?.checked_mul(self.geometry.padded_width())?;
        Some([keys_values, shifted.checked_mul(shifts)?.checked_mul(shift_width)?])
    }

    /// Bytes of a part.
    pub(crate) fn bytes(&self, part: Part) -> usize {
        let number = if self.precision == Precision::F32 { 4 } else { 2 };
        let bytes = |[keys_values, shifted]: [usize; 2]| {
            keys_values.saturating_mul(number).saturating_add(shifted.saturating_mul(size_of::<f32>()))
        };
        self.numbers(part).map_or(usize::MAX, bytes)
    }

    /// A shift looks one row back, also from a position that was taken back.
    fn shift_ring(&self) -> usize {
        self.geometry.cells().min(self.geometry.columns + 1 + WAVE)
    }

    /// Where a shift keeps a position.
    pub(crate) fn shifted_start(&self, shift: usize, position: usize) -> (Part, usize) {
        let (part, position) = self.part(position);
        let (place, places) = match part {
            Part::Text => (position, self.geometry.text_length),
            Part::Image => (position % self.shift_ring(), self.shift_ring()),
        };
        (part, (shift * places + place) * self.geometry.shift_width)
    }

    /// Memory for a part, of zeros by the operating system: a page that is never used takes none.
    pub(crate) fn allocate(&self, part: Part) -> Result<Kept, Error> {
        let exhausted = || Error::Exhausted { bytes: self.bytes(part) };
        let [keys_values, shifted] = self.numbers(part).ok_or_else(exhausted)?;
        let keys_values = match self.precision {
            Precision::F32 => Buffer::zeros(keys_values).map(Numbers::F32),
            Precision::Bf16 => Buffer::zeros(keys_values).map(Numbers::Bf16),
        };
        let shifted = Buffer::zeros(shifted);
        Ok(Kept { keys_values: keys_values.ok_or_else(exhausted)?, shifted: shifted.ok_or_else(exhausted)? })
    }
}

/// Numbers from a cache line's start on.
#[derive(Debug)]
pub(crate) struct Buffer<E> {
    numbers: Vec<E>,
    start: usize,
}

impl<E: Number> Buffer<E> {
    fn zeros(length: usize) -> Option<Self> {
        const LINE: usize = 64;
        let padded = length.checked_add(LINE)?;
        // `vec!` aborts the process where it fails, so this is tried first.
        Vec::<E>::new().try_reserve_exact(padded).ok()?;
        let numbers = vec![E::default(); padded];
        let start = numbers.as_ptr().align_offset(LINE).min(LINE);
        Some(Self { numbers, start })
    }

    fn of(&self, start: usize, length: usize) -> &[E] {
        &self.numbers[self.start + start..][..length]
    }

    fn of_mut(&mut self, start: usize, length: usize) -> &mut [E] {
        &mut self.numbers[self.start + start..][..length]
    }

    /// Stores `numbers` at `start`.
    fn write(&mut self, start: usize, numbers: &[f32]) {
        for (to, from) in self.of_mut(start, numbers.len()).iter_mut().zip(numbers) {
            *to = E::of(*from);
        }
    }

    fn copy(&mut self, from: &Self, start: usize, length: usize) {
        self.of_mut(start, length).copy_from_slice(from.of(start, length));
    }
}

/// Keys and values.
#[derive(Debug)]
pub(crate) enum Numbers {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
}

/// A number that keys and values can be stored in.
pub(crate) trait Stored: Number {
    fn buffer(numbers: &Numbers) -> Option<&Buffer<Self>>;
}

impl Stored for f32 {
    fn buffer(numbers: &Numbers) -> Option<&Buffer<Self>> {
        if let Numbers::F32(buffer) = numbers { Some(buffer) } else { None }
    }
}

impl Stored for u16 {
    fn buffer(numbers: &Numbers) -> Option<&Buffer<Self>> {
        if let Numbers::Bf16(buffer) = numbers { Some(buffer) } else { None }
    }
}

/// One part of one sequence.
#[derive(Debug)]
pub(crate) struct Kept {
    keys_values: Numbers,
    shifted: Buffer<f32>,
}

impl Kept {
    /// Stores the keys and values \[heads · head_width\] of a position, counted from the part's first, of one layer.
    pub(crate) fn write(&mut self, layout: &Layout, at: (Part, usize, usize), keys: &[f32], values: &[f32]) {
        let (part, layer, position) = at;
        let Geometry { head_width: width, .. } = layout.geometry;
        let at = layout.place_of(part, layer, position) * layout.geometry.padded_width();
        for (head, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let (start, length) = layout.plane(part, layer, head);
            for (start, numbers) in [(start + at, key), (start + length + at, value)] {
                match &mut self.keys_values {
                    Numbers::F32(buffer) => buffer.write(start, numbers),
                    Numbers::Bf16(buffer) => buffer.write(start, numbers),
                }
            }
        }
    }

    /// One head of one layer; none: the numbers are others.
    pub(crate) fn planes<E: Stored>(
        &self,
        layout: &Layout,
        part: Part,
        layer: usize,
        head: usize,
    ) -> Option<Planes<'_, E>> {
        let (start, length) = layout.plane(part, layer, head);
        let both = E::buffer(&self.keys_values)?.of(start, 2 * length);
        let (keys, values) = both.as_chunks::<LANES>().0.split_at(length / LANES);
        Some(Planes { keys, values })
    }

    pub(crate) fn shifted(&self, start: usize, width: usize) -> &[f32] {
        self.shifted.of(start, width)
    }

    pub(crate) fn write_shifted(&mut self, start: usize, numbers: &[f32]) {
        self.shifted.write(start, numbers);
    }

    /// Takes over the first `count` positions of a part of another sequence, or those that are left of them: it holds no more than they.
    pub(crate) fn copy(&mut self, from: &Self, layout: &Layout, part: Part, count: usize) {
        let Geometry { layers, heads, shifts, shift_width, .. } = layout.geometry;
        let width = layout.geometry.padded_width();
        for layer in 0..layers {
            for position in count.saturating_sub(layout.places(part, layer).0)..count {
                let at = layout.place_of(part, layer, position) * width;
                for head in 0..heads {
                    let (start, length) = layout.plane(part, layer, head);
                    for start in [start + at, start + length + at] {
                        match (&mut self.keys_values, &from.keys_values) {
                            (Numbers::F32(to), Numbers::F32(from)) => to.copy(from, start, width),
                            (Numbers::Bf16(to), Numbers::Bf16(from)) => to.copy(from, start, width),
                            _ => unreachable!("all sequences of a pool are stored alike"),
                        }
                    }
                }
            }
        }
        let places = if part == Part::Text { layout.geometry.text_length } else { layout.shift_ring() };
        self.shifted.copy(&from.shifted, 0, shifts * places * shift_width);
    }
}
