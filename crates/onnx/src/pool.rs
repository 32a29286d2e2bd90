//! The keys and values of all sequences.

use easel_package::Manifest;

use crate::{Error, Prefix, Row, attend::LANES};

/// What the manifest says of the attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) head_width: usize,
    pub(crate) text_length: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Geometry {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let attention = manifest.sampler.attention;
        Self {
            layers: attention.layers as usize,
            heads: attention.heads as usize,
            head_width: attention.head_width as usize,
            text_length: manifest.text.length as usize,
            rows: manifest.grid.rows as usize,
            columns: manifest.grid.columns as usize,
        }
    }

    /// Text and image.
    pub(crate) fn positions(self) -> usize {
        self.text_length + self.rows * self.columns
    }

    /// A head's numbers with the zeros that fill the last lanes.
    pub(crate) fn padded_width(self) -> usize {
        self.head_width.next_multiple_of(LANES)
    }

    /// One sequence's keys or values of one head of one layer.
    fn plane(self) -> usize {
        self.positions() * self.padded_width()
    }

    /// Numbers of one sequence; none: more than a machine can count.
    fn sequence(self) -> Option<usize> {
        self.plane().checked_mul(2 * self.layers * self.heads)
    }

    /// Bytes of one sequence.
    pub(crate) fn sequence_bytes(self) -> usize {
        self.sequence().map_or(usize::MAX, |numbers| numbers.saturating_mul(size_of::<f32>()))
    }
}

/// A number of slots, each with room for one sequence, taken when first used.
///
/// A slot's storage is \[layers, heads, key or value, positions, padded width\]: what a task reads, one head of one layer, is contiguous.
#[derive(Debug)]
pub(crate) struct Pool {
    geometry: Geometry,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    storage: Vec<f32>,
    /// Positions computed; none: not begun, or begun by a step that failed.
    written: Option<usize>,
    /// Positions computed when the step that is being made has run.
    reached: usize,
    /// Counts the sequences that this slot has held.
    sequence: u64,
    prefix: Option<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    slot: usize,
    length: usize,
    sequence: u64,
}

/// What one head of one layer reads of one sequence. All planes are \[positions, padded width\].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    /// Positions 0 … prefix_length − 1 are read from `prefix`.
    pub(crate) prefix_length: usize,
    pub(crate) prefix: Planes<'a>,
    pub(crate) own: Planes<'a>,
}

/// Keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes<'a> {
    pub(crate) keys: &'a [f32],
    pub(crate) values: &'a [f32],
}

impl Pool {
    pub(crate) fn new(geometry: Geometry, sequences: usize) -> Self {
        Self { geometry, slots: vec![Slot::default(); sequences] }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn sequences(&self) -> usize {
        self.slots.len()
    }

    /// Starts a sequence; see `Transformer::begin`.
    pub(crate) fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        self.check_slot("slot", slot)?;
        let link = prefix.map(|prefix| self.link(slot, prefix)).transpose()?;
        if self.slots[slot].storage.is_empty() {
            self.slots[slot].storage = self.allocate()?;
        }
        let place = &mut self.slots[slot];
        place.sequence += 1;
        place.prefix = link;
        place.reached = link.map_or(0, |link| link.length);
        place.written = Some(place.reached);
        Ok(())
    }

    fn check_slot(&self, field: &str, slot: usize) -> Result<(), Error> {
        if slot < self.slots.len() {
            return Ok(());
        }
        Err(Error::input(field, format_args!("0 … {}", self.slots.len().saturating_sub(1)), slot))
    }

    fn link(&self, slot: usize, prefix: Prefix) -> Result<Link, Error> {
        self.check_slot("prefix.slot", prefix.slot)?;
        if prefix.slot == slot {
            return Err(Error::input("prefix.slot", "another slot", slot));
        }
        let source = &self.slots[prefix.slot];
        let length = prefix.length as usize;
        let computed = source.written.unwrap_or(0);
        if length == 0 || length > computed {
            return Err(Error::input(
                "prefix.length",
                format_args!("1 … {computed}, what slot {} holds", prefix.slot),
                length,
            ));
        }
        if source.prefix.is_some() {
            return Err(Error::input("prefix.slot", "a slot without a prefix of its own", prefix.slot));
        }
        Ok(Link { slot: prefix.slot, length, sequence: source.sequence })
    }

    /// Zeros, by the operating system: a page that is never used takes no memory.
    fn allocate(&self) -> Result<Vec<f32>, Error> {
        let exhausted = || Error::Exhausted { bytes: self.geometry.sequence_bytes() };
        let numbers = self.geometry.sequence().ok_or_else(exhausted)?;
        // `vec!` aborts the process where it fails, so this is tried first.
        Vec::<f32>::new().try_reserve_exact(numbers).map_err(|_| exhausted())?;
        Ok(vec![0.0; numbers])
    }

    /// Checks that every row follows its slot's last one, and notes how far each slot gets. A refusal changes nothing.
    pub(crate) fn reserve(&mut self, rows: &[Row]) -> Result<(), Error> {
        let outcome = rows.iter().enumerate().try_for_each(|(i, row)| self.reserve_row(i, row));
        if outcome.is_err() {
            for row in rows {
                if let Some(place) = self.slots.get_mut(row.slot) {
                    place.reached = place.written.unwrap_or(0);
                }
            }
        }
        outcome
    }

    fn reserve_row(&mut self, i: usize, row: &Row) -> Result<(), Error> {
        self.check_slot(&format!("rows[{i}].slot"), row.slot)?;
        let place = &self.slots[row.slot];
        if place.written.is_none() {
            return Err(Error::input(format!("rows[{i}].slot"), "a slot that was begun", row.slot));
        }
        if let Some(link) = place.prefix.filter(|link| self.slots[link.slot].sequence != link.sequence) {
            return Err(Error::input(
                format!("rows[{i}].slot"),
                format_args!("a prefix still in slot {}", link.slot),
                "another sequence",
            ));
        }
        let next = place.reached;
        if next >= self.geometry.positions() {
            return Err(Error::input(format!("rows[{i}].position"), "an unfinished sequence", row.position));
        }
        if row.position as usize != next {
            return Err(Error::input(
                format!("rows[{i}].position"),
                format_args!("{next}, the next of slot {}", row.slot),
                row.position,
            ));
        }
        self.slots[row.slot].reached = next + 1;
        Ok(())
    }

    /// Makes what was reserved computed, or, when the step failed, forgets the sequences.
    pub(crate) fn settle(&mut self, rows: &[Row], computed: bool) {
        for row in rows {
            let place = &mut self.slots[row.slot];
            place.written = computed.then_some(place.reached);
        }
    }

    /// Whether `slot` and `position` can be written and read, whatever a graph makes of them.
    pub(crate) fn holds(&self, slot: i64, position: i64) -> bool {
        let place = usize::try_from(slot).ok().and_then(|slot| self.slots.get(slot));
        place.is_some_and(|place| !place.storage.is_empty())
            && usize::try_from(position).is_ok_and(|position| position < self.geometry.positions())
    }

    fn plane_start(&self, layer: usize, head: usize) -> usize {
        (layer * self.geometry.heads + head) * 2 * self.geometry.plane()
    }

    /// Stores the keys and values \[heads · head_width\] of a position of one layer.
    pub(crate) fn write(&mut self, slot: usize, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let Geometry { head_width: width, .. } = self.geometry;
        let (plane, at) = (self.geometry.plane(), position * self.geometry.padded_width());
        for (head, (key, value)) in keys.chunks_exact(width).zip(values.chunks_exact(width)).enumerate() {
            let start = self.plane_start(layer, head) + at;
            let storage = &mut self.slots[slot].storage;
            storage[start..][..width].copy_from_slice(key);
            storage[start + plane..][..width].copy_from_slice(value);
        }
    }

    /// One head of one layer of a sequence.
    pub(crate) fn head(&self, slot: usize, layer: usize, head: usize) -> Head<'_> {
        let (plane, start) = (self.geometry.plane(), self.plane_start(layer, head));
        let planes = |slot: usize| {
            let both = &self.slots[slot].storage[start..][..2 * plane];
            Planes { keys: &both[..plane], values: &both[plane..] }
        };
        let own = planes(slot);
        match self.slots[slot].prefix {
            Some(link) => Head { prefix_length: link.length, prefix: planes(link.slot), own },
            None => Head { prefix_length: 0, prefix: own, own },
        }
    }
}
