//! What is kept of all sequences: keys and values, and what token shifts read.

use easel_package::{Manifest, Padding};

use crate::{Error, Prefix, Row, attend::LANES};

/// What the manifest says of a sequence and of what is kept of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) head_width: usize,
    pub(crate) text_length: usize,
    pub(crate) rows: usize,
    /// Image tokens of a row, those that are not drawn included.
    pub(crate) columns: usize,
    /// A text may begin at any of its positions: it has no pads.
    pub(crate) ragged: bool,
    pub(crate) shifts: usize,
    /// Numbers of a token that a shift keeps.
    pub(crate) shift_width: usize,
}

impl Geometry {
    pub(crate) fn of(manifest: &Manifest) -> Self {
        let attention = manifest.sampler.attention;
        let shift = manifest.sampler.shift;
        Self {
            layers: attention.layers as usize,
            heads: attention.heads as usize,
            head_width: attention.head_width as usize,
            text_length: manifest.text.length as usize,
            rows: manifest.grid.rows as usize,
            columns: manifest.row_tokens(),
            ragged: manifest.text.padding == Padding::None,
            shifts: shift.map_or(0, |shift| shift.count as usize),
            shift_width: shift.map_or(0, |shift| shift.width as usize),
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

    /// Numbers of one sequence's keys and values; none: more than a machine can count.
    fn keys_values(self) -> Option<usize> {
        self.plane().checked_mul(2 * self.layers * self.heads)
    }

    /// Numbers of one sequence; none: more than a machine can count.
    fn sequence(self) -> Option<usize> {
        let shifted = self.positions().checked_mul(self.shifts * self.shift_width)?;
        self.keys_values()?.checked_add(shifted)
    }

    /// Bytes of one sequence.
    pub(crate) fn sequence_bytes(self) -> usize {
        self.sequence().map_or(usize::MAX, |numbers| numbers.saturating_mul(size_of::<f32>()))
    }
}

/// A number of slots, each with room for one sequence, taken when first used.
///
/// A slot's storage is \[layers, heads, key or value, positions, padded width\]: what a task reads, one head of one layer, is contiguous. Behind it lies
/// what is shifted, \[shifts, positions, width\].
#[derive(Debug)]
pub(crate) struct Pool {
    geometry: Geometry,
    slots: Vec<Slot>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    storage: Vec<f32>,
    /// The sequence's first position.
    first: usize,
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
        let first = link.map_or(0, |link| self.slots[link.slot].first);
        let place = &mut self.slots[slot];
        place.first = first;
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
        let least = source.first + 1;
        if length < least || length > computed {
            return Err(Error::input(
                "prefix.length",
                format_args!("{least} … {computed}, what slot {} holds", prefix.slot),
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
        let mut next = place.reached;
        if self.geometry.ragged && next == 0 && (row.position as usize) < self.geometry.text_length {
            next = row.position as usize;
            self.slots[row.slot].first = next;
        }
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

    /// The first position of a slot's sequence.
    pub(crate) fn first(&self, slot: usize) -> usize {
        self.slots[slot].first
    }

    fn shifted_start(&self, shift: usize, position: usize) -> usize {
        let keys_values = self.geometry.keys_values().expect("the slot was allocated");
        keys_values + (shift * self.geometry.positions() + position) * self.geometry.shift_width
    }

    /// Stores what the shift keeps of a position.
    pub(crate) fn write_shifted(&mut self, slot: usize, shift: usize, position: usize, numbers: &[f32]) {
        let start = self.shifted_start(shift, position);
        self.slots[slot].storage[start..][..numbers.len()].copy_from_slice(numbers);
    }

    /// What the shift keeps of a position.
    pub(crate) fn shifted(&self, slot: usize, shift: usize, position: usize) -> &[f32] {
        let start = self.shifted_start(shift, position);
        let link = self.slots[slot].prefix.filter(|link| position < link.length);
        &self.slots[link.map_or(slot, |link| link.slot)].storage[start..][..self.geometry.shift_width]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GEOMETRY: Geometry = Geometry {
        layers: 1,
        heads: 1,
        head_width: 4,
        text_length: 2,
        rows: 1,
        columns: 2,
        ragged: false,
        shifts: 0,
        shift_width: 0,
    };

    fn row(slot: usize, position: u32) -> Row {
        Row { slot, token: 0, position, logits: false }
    }

    fn refusal(pool: &mut Pool, rows: &[Row]) -> String {
        pool.reserve(rows).unwrap_err().to_string()
    }

    #[test]
    fn a_slot_takes_its_memory_when_it_is_begun() {
        let mut pool = Pool::new(GEOMETRY, 3);
        assert_eq!(GEOMETRY.sequence_bytes(), 2 * 4 * 8 * 4);
        assert!(!pool.holds(1, 0));
        pool.begin(1, None).unwrap();
        assert!(pool.holds(1, 3) && !pool.holds(1, 4) && !pool.holds(1, -1) && !pool.holds(2, 0) && !pool.holds(3, 0));
    }

    #[test]
    fn rows_follow_one_another() {
        let mut pool = Pool::new(GEOMETRY, 2);
        assert_eq!(refusal(&mut pool, &[row(0, 0)]), "rows[0].slot: expected a slot that was begun, found 0");
        pool.begin(0, None).unwrap();
        assert_eq!(refusal(&mut pool, &[row(2, 0)]), "rows[0].slot: expected 0 … 1, found 2");
        assert_eq!(
            refusal(&mut pool, &[row(0, 0), row(0, 2)]),
            "rows[1].position: expected 1, the next of slot 0, found 2"
        );
        pool.reserve(&[row(0, 0), row(0, 1)]).unwrap();
        pool.settle(&[row(0, 0), row(0, 1)], true);
        pool.reserve(&[row(0, 2), row(0, 3)]).unwrap();
        pool.settle(&[row(0, 2), row(0, 3)], true);
        assert_eq!(refusal(&mut pool, &[row(0, 4)]), "rows[0].position: expected an unfinished sequence, found 4");
    }

    #[test]
    fn a_failed_step_ends_its_sequences_alone() {
        let mut pool = Pool::new(GEOMETRY, 2);
        pool.begin(0, None).unwrap();
        pool.begin(1, None).unwrap();
        pool.reserve(&[row(0, 0)]).unwrap();
        pool.settle(&[row(0, 0)], false);
        assert_eq!(refusal(&mut pool, &[row(0, 1)]), "rows[0].slot: expected a slot that was begun, found 0");
        pool.reserve(&[row(1, 0)]).unwrap();
    }

    #[test]
    fn a_prefix_is_computed_whole_and_kept() {
        let mut pool = Pool::new(GEOMETRY, 4);
        pool.begin(0, None).unwrap();
        pool.reserve(&[row(0, 0), row(0, 1)]).unwrap();
        pool.settle(&[row(0, 0), row(0, 1)], true);
        let mut refused = |slot, prefix| pool.begin(slot, Some(prefix)).unwrap_err().to_string();
        let found = refused(1, Prefix { slot: 0, length: 3 });
        assert_eq!(found, "prefix.length: expected 1 … 2, what slot 0 holds, found 3");
        assert_eq!(refused(1, Prefix { slot: 1, length: 1 }), "prefix.slot: expected another slot, found 1");
        assert_eq!(refused(1, Prefix { slot: 4, length: 1 }), "prefix.slot: expected 0 … 3, found 4");

        pool.begin(1, Some(Prefix { slot: 0, length: 2 })).unwrap();
        let error = pool.begin(2, Some(Prefix { slot: 1, length: 1 })).unwrap_err().to_string();
        assert_eq!(error, "prefix.slot: expected a slot without a prefix of its own, found 1");
        pool.reserve(&[row(1, 2)]).unwrap();
        pool.settle(&[row(1, 2)], true);
        pool.begin(0, None).unwrap();
        assert_eq!(
            refusal(&mut pool, &[row(1, 3)]),
            "rows[0].slot: expected a prefix still in slot 0, found another sequence"
        );
    }

    #[test]
    fn a_text_without_pads_begins_where_it_must_to_end_at_the_image() {
        let mut pool = Pool::new(Geometry { ragged: true, ..GEOMETRY }, 3);
        pool.begin(0, None).unwrap();
        assert_eq!(refusal(&mut pool, &[row(0, 2)]), "rows[0].position: expected 0, the next of slot 0, found 2");
        pool.reserve(&[row(0, 1)]).unwrap();
        pool.settle(&[row(0, 1)], true);
        assert_eq!(pool.first(0), 1);
        assert_eq!(refusal(&mut pool, &[row(0, 1)]), "rows[0].position: expected 2, the next of slot 0, found 1");
        let error = pool.begin(1, Some(Prefix { slot: 0, length: 1 })).unwrap_err().to_string();
        assert_eq!(error, "prefix.length: expected 2 … 2, what slot 0 holds, found 1");
        pool.begin(1, Some(Prefix { slot: 0, length: 2 })).unwrap();
        assert_eq!(pool.first(1), 1);
        pool.begin(0, None).unwrap();
        pool.reserve(&[row(0, 0)]).unwrap();
        assert_eq!(pool.first(0), 0);
    }

    #[test]
    fn what_is_shifted_is_read_from_the_prefix_that_has_it() {
        let mut pool = Pool::new(Geometry { shifts: 2, shift_width: 2, ..GEOMETRY }, 2);
        pool.begin(0, None).unwrap();
        pool.reserve(&[row(0, 0)]).unwrap();
        pool.write_shifted(0, 1, 0, &[1.0, 2.0]);
        pool.settle(&[row(0, 0)], true);
        pool.begin(1, Some(Prefix { slot: 0, length: 1 })).unwrap();
        pool.write_shifted(1, 1, 1, &[3.0, 4.0]);
        assert_eq!((pool.shifted(1, 1, 0), pool.shifted(1, 1, 1)), (&[1.0, 2.0][..], &[3.0, 4.0][..]));
        assert_eq!(pool.shifted(0, 1, 1), [0.0, 0.0]);
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let huge = Geometry { layers: 1024, heads: 1024, head_width: 1024, rows: 1024, columns: 1024, ..GEOMETRY };
        assert!(matches!(Pool::new(huge, 1).begin(0, None), Err(Error::Exhausted { .. })));
    }
}
