//! What is kept of all sequences: keys and values, and what token shifts read.

use easel_package::{Manifest, Padding};

use crate::{
    Error, Precision, Prefix, Row,
    attend::{Path, Planes},
    mask::Mask,
    store::{Kept, Layout, Part, Stored, WAVE},
    vector::LANES,
};

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
        self.text_length + self.cells()
    }

    /// Image positions.
    pub(crate) fn cells(self) -> usize {
        self.rows * self.columns
    }

    /// A head's numbers with the zeros that fill the last lanes.
    pub(crate) fn padded_width(self) -> usize {
        self.head_width.next_multiple_of(LANES)
    }
}

/// A number of slots, each with room for one sequence. The memory of a sequence's text, and of its image, is taken when the first of its rows comes, and kept
/// for the slot's next sequence.
#[derive(Debug)]
pub(crate) struct Pool {
    layout: Layout,
    slots: Vec<Slot>,
    /// The instructions that its keys and values are read with.
    pub(crate) path: Path,
}

#[derive(Debug, Default)]
struct Slot {
    text: Option<Kept>,
    image: Option<Kept>,
    /// The sequence's first position.
    first: usize,
    /// Positions computed; none: not begun, or begun by a step that failed.
    written: Option<usize>,
    /// Positions computed when the step that is being made has run.
    reached: usize,
    /// Counts the sequences that this slot has held.
    sequence: u64,
    /// Whose text is read; none: its own.
    link: Option<Link>,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    slot: usize,
    sequence: u64,
}

/// What one head of one layer reads of one sequence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a, E> {
    pub(crate) text: Planes<'a, E>,
    pub(crate) image: Planes<'a, E>,
}

impl Slot {
    fn part(&self, part: Part) -> Option<&Kept> {
        if part == Part::Text { self.text.as_ref() } else { self.image.as_ref() }
    }

    fn part_mut(&mut self, part: Part) -> &mut Option<Kept> {
        if part == Part::Text { &mut self.text } else { &mut self.image }
    }
}

impl Pool {
    pub(crate) fn new(geometry: Geometry, precision: Precision, sequences: usize) -> Self {
        let path = Path::here().next().expect("every machine has a path");
        let mut pool = Self { layout: Layout::new(geometry, precision), slots: Vec::new(), path };
        pool.resize(sequences);
        pool
    }

    /// Forgets all sequences and makes so many slots.
    pub(crate) fn resize(&mut self, sequences: usize) {
        self.slots.clear();
        self.slots.resize_with(sequences, Slot::default);
    }

    /// Keeps of a layer only what `mask` can see. No sequence has been begun yet.
    pub(crate) fn keep(&mut self, layer: usize, mask: Mask) {
        debug_assert!(self.slots.iter().all(|slot| slot.text.is_none() && slot.image.is_none()));
        self.layout.keep(layer, mask);
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.layout.geometry()
    }

    pub(crate) fn sequences(&self) -> usize {
        self.slots.len()
    }

    /// Starts a sequence; see `Transformer::begin`.
    pub(crate) fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        self.check_slot("slot", slot)?;
        if let Some(prefix) = prefix {
            self.check_prefix(slot, prefix)?;
        }
        let source = prefix.map(|prefix| (prefix.slot, prefix.length as usize));
        let text_length = self.geometry().text_length;
        match source {
            Some((source, length)) if length < text_length => self.copy(source, slot, Part::Text, length)?,
            Some((source, length)) if length > text_length => {
                self.copy(source, slot, Part::Image, length - text_length)?
            }
            _ => {}
        }
        let whole = source.filter(|(_, length)| *length >= text_length);
        let link = whole.map(|(slot, _)| Link { slot, sequence: self.slots[slot].sequence });
        let first = source.map_or(0, |(source, _)| self.slots[source].first);
        let place = &mut self.slots[slot];
        place.first = first;
        place.sequence += 1;
        place.link = link;
        place.reached = source.map_or(0, |(_, length)| length);
        place.written = Some(place.reached);
        Ok(())
    }

    /// Copies the first `count` positions of a part, or those that are kept of them.
    fn copy(&mut self, from: usize, to: usize, part: Part, count: usize) -> Result<(), Error> {
        self.ensure(to, part)?;
        let mut copy = self.slots[to].part_mut(part).take().expect("it was ensured");
        let from = self.slots[from].part(part).expect("the prefix was computed");
        copy.copy(from, &self.layout, part, count);
        *self.slots[to].part_mut(part) = Some(copy);
        Ok(())
    }

    /// Takes the memory of a part, unless the slot has it.
    fn ensure(&mut self, slot: usize, part: Part) -> Result<(), Error> {
        let place = self.slots[slot].part_mut(part);
        if place.is_none() {
            *place = Some(self.layout.allocate(part)?);
        }
        Ok(())
    }

    fn check_slot(&self, field: &str, slot: usize) -> Result<(), Error> {
        if slot < self.slots.len() {
            return Ok(());
        }
        Err(Error::input(field, format_args!("0 … {}", self.slots.len().saturating_sub(1)), slot))
    }

    fn check_prefix(&self, slot: usize, prefix: Prefix) -> Result<(), Error> {
        self.check_slot("prefix.slot", prefix.slot)?;
        if prefix.slot == slot {
            return Err(Error::input("prefix.slot", "another slot", slot));
        }
        let source = &self.slots[prefix.slot];
        let length = prefix.length as usize;
        let computed = source.written.unwrap_or(0);
        let least = source.first + 1;
        if length < least || length > computed {
            let expected = format_args!("{least} … {computed}, what slot {} holds", prefix.slot);
            return Err(Error::input("prefix.length", expected, length));
        }
        if length > self.geometry().text_length && length < computed {
            let text = self.geometry().text_length;
            let expected = format_args!("at most {text}, or {computed}, all that slot {} holds", prefix.slot);
            return Err(Error::input("prefix.length", expected, length));
        }
        if source.link.is_some() {
            return Err(Error::input("prefix.slot", "a slot without a prefix of its own", prefix.slot));
        }
        Ok(())
    }

    /// Takes image positions of a slot back, all from `length` on: the next row is to be there. Of the rings, the places of as many as [`WAVE`] positions hold nothing
    /// that rows before them see.
    pub(crate) fn rewind(&mut self, slot: usize, length: usize) -> Result<(), Error> {
        self.check_slot("slot", slot)?;
        let written = self.slots[slot].written.unwrap_or(0);
        let least = written.saturating_sub(WAVE).max(self.geometry().text_length);
        if !(least..=written).contains(&length) {
            return Err(Error::input("length", format_args!("{least} … {written}"), length));
        }
        let place = &mut self.slots[slot];
        (place.written, place.reached) = (Some(length), length);
        Ok(())
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
        if let Some(link) = place.link.filter(|link| self.slots[link.slot].sequence != link.sequence) {
            return Err(Error::input(
                format!("rows[{i}].slot"),
                format_args!("a prefix still in slot {}", link.slot),
                "another sequence",
            ));
        }
        let mut next = place.reached;
        if self.geometry().ragged && next == 0 && (row.position as usize) < self.geometry().text_length {
            next = row.position as usize;
            self.slots[row.slot].first = next;
        }
        if next >= self.geometry().positions() {
            return Err(Error::input(format!("rows[{i}].position"), "an unfinished sequence", row.position));
        }
        if row.position as usize != next {
            return Err(Error::input(
                format!("rows[{i}].position"),
                format_args!("{next}, the next of slot {}", row.slot),
                row.position,
            ));
        }
        self.ensure(row.slot, self.layout.part(next).0)?;
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
        let (Ok(slot), Ok(position)) = (usize::try_from(slot), usize::try_from(position)) else { return false };
        let own = |place: &Slot| place.part(self.layout.part(position).0).is_some();
        position < self.geometry().positions()
            && self.slots.get(slot).is_some_and(own)
            && self.slots[self.text_slot(slot)].text.is_some()
    }

    /// The first position of a slot's sequence.
    pub(crate) fn first(&self, slot: usize) -> usize {
        self.slots[slot].first
    }

    /// The slot whose text a sequence reads.
    pub(crate) fn text_slot(&self, slot: usize) -> usize {
        self.slots[slot].link.map_or(slot, |link| link.slot)
    }

    /// Stores what the shift keeps of a position.
    pub(crate) fn write_shifted(&mut self, slot: usize, shift: usize, position: usize, numbers: &[f32]) {
        let (part, start) = self.layout.shifted_start(shift, position);
        let kept = self.slots[slot].part_mut(part).as_mut().expect("the slot holds the position");
        kept.write_shifted(start, numbers);
    }

    /// What the shift keeps of a position.
    pub(crate) fn shifted(&self, slot: usize, shift: usize, position: usize) -> &[f32] {
        let (part, start) = self.layout.shifted_start(shift, position);
        let slot = if part == Part::Text { self.text_slot(slot) } else { slot };
        let kept = self.slots[slot].part(part).expect("the slot holds the position");
        kept.shifted(start, self.geometry().shift_width)
    }

    /// Stores the keys and values \[heads · head_width\] of a position of one layer.
    pub(crate) fn write(&mut self, slot: usize, layer: usize, position: usize, keys: &[f32], values: &[f32]) {
        let (part, position) = self.layout.part(position);
        let kept = self.slots[slot].part_mut(part).as_mut().expect("the slot holds the position");
        kept.write(&self.layout, (part, layer, position), keys, values);
    }

    /// One head of one layer of a sequence; a part that it does not have is empty.
    pub(crate) fn head<E: Stored>(&self, slot: usize, layer: usize, head: usize) -> Head<'_, E> {
        let planes = |slot: usize, part: Part| {
            let kept = self.slots[slot].part(part);
            let planes = kept.and_then(|kept| kept.planes(&self.layout, part, layer, head));
            planes.unwrap_or(Planes { keys: &[], values: &[] })
        };
        Head { text: planes(self.text_slot(slot), Part::Text), image: planes(slot, Part::Image) }
    }
}

#[cfg(test)]
mod tests;
