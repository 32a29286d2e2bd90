//! What every slot's sequence is, and which places on the device hold its text and its image.

use std::{collections::VecDeque, ops::Range};

use crate::{Error, Prefix, Row};

/// A token with its places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) token: u32,
    pub(super) position: u32,
    /// First position of its sequence.
    pub(super) first: usize,
    /// Place of its text.
    pub(super) text: usize,
    /// Place of its image; none: the token is of the text.
    pub(super) image: Option<usize>,
}

/// A token that waits for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) slot: usize,
    pub(super) token: u32,
    pub(super) position: u32,
    /// Which of the step's logits are its own.
    pub(super) logits: Option<usize>,
}

/// The sequences of a number of slots.
///
/// A text has a place for as long as one of the slots that read it does; an image's place is its slot's own. The tokens of all sequences are kept, so that what
/// a slot cannot read where it lies (another's image, the beginning of another's text) is computed once more, before its own first token.
#[derive(Debug)]
pub(super) struct Ledger {
    sizes: Sizes,
    slots: Vec<Slot>,
    texts: Places,
    images: Places,
}

/// What the ledger must know of sequences.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) positions: usize,
    /// Positions of a text's place; the others are of the image's.
    pub(super) text: usize,
    /// Positions at which a sequence may begin: 0, and, where texts have no pads, all below this.
    pub(super) begins: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// Tokens from the first position on, those that are reserved included.
    tokens: Vec<u32>,
    first: usize,
    /// Tokens computed; none: not begun, or begun by a step that failed.
    written: Option<usize>,
    /// Of the tokens computed, those that must be computed again for this slot.
    again: Range<usize>,
    text: Option<usize>,
    image: Option<usize>,
}

/// Places that are taken and given back, the lowest first.
#[derive(Debug, Default)]
struct Places {
    readers: Vec<usize>,
}

impl Places {
    fn take(&mut self) -> usize {
        let place = self.readers.iter().position(|readers| *readers == 0).unwrap_or(self.readers.len());
        self.readers.resize(self.readers.len().max(place + 1), 0);
        self.readers[place] = 1;
        place
    }

    fn give(&mut self, place: Option<usize>) {
        if let Some(place) = place {
            self.readers[place] -= 1;
        }
    }
}

impl Ledger {
    pub(super) fn new(sizes: Sizes, sequences: usize) -> Self {
        let mut texts = Places::default();
        // Place 0 is of rows that fill up a run.
        texts.take();
        let slots = (0..sequences).map(|_| Slot::default()).collect();
        Self { sizes, slots, texts, images: Places::default() }
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    pub(super) fn sequences(&self) -> usize {
        self.slots.len()
    }

    /// Places that were ever taken, of texts and of images.
    pub(super) fn reach(&self) -> [usize; 2] {
        [self.texts.readers.len(), self.images.readers.len()]
    }

    /// See `Transformer::begin`.
    pub(super) fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        self.check_slot("slot", slot)?;
        let next = match prefix {
            Some(prefix) => self.behind(slot, prefix)?,
            None => Slot { written: Some(0), ..Slot::default() },
        };
        let old = std::mem::replace(&mut self.slots[slot], next);
        if let Some(text) = self.slots[slot].text {
            self.texts.readers[text] += 1;
        }
        self.texts.give(old.text);
        self.images.give(old.image);
        Ok(())
    }

    fn check_slot(&self, field: &str, slot: usize) -> Result<(), Error> {
        if slot < self.slots.len() {
            return Ok(());
        }
        Err(Error::input(field, format_args!("0 … {}", self.slots.len().saturating_sub(1)), slot))
    }

    /// A slot behind the first positions of another: a whole text is read where it lies.
    fn behind(&self, slot: usize, prefix: Prefix) -> Result<Slot, Error> {
        self.check_slot("prefix.slot", prefix.slot)?;
        if prefix.slot == slot {
            return Err(Error::input("prefix.slot", "another slot", slot));
        }
        let source = &self.slots[prefix.slot];
        let (first, length) = (source.first, prefix.length as usize);
        let computed = source.written.map_or(0, |written| first + written);
        if length <= first || length > computed {
            let expected = format_args!("{} … {computed}, what slot {} holds", first + 1, prefix.slot);
            return Err(Error::input("prefix.length", expected, length));
        }
        let tokens = source.tokens[..length - first].to_vec();
        let text = source.text.filter(|_| length >= self.sizes.text);
        let kept = if text.is_some() { self.sizes.text - first.min(self.sizes.text) } else { 0 };
        let again = kept..tokens.len();
        Ok(Slot { written: Some(tokens.len()), tokens, first, again, text, image: None })
    }

    /// Checks that every row follows its slot's last one, and takes their tokens; a refusal changes nothing. Gives the tokens to compute, in order.
    pub(super) fn reserve(&mut self, rows: &[Row]) -> Result<VecDeque<Waiting>, Error> {
        for (i, row) in rows.iter().enumerate() {
            if let Err(error) = self.reserve_row(i, row) {
                for row in &rows[..i] {
                    let place = &mut self.slots[row.slot];
                    place.tokens.truncate(place.written.unwrap_or(0));
                }
                return Err(error);
            }
        }
        let mut waiting = VecDeque::with_capacity(rows.len());
        let mut asked = 0..;
        for row in rows {
            let place = &mut self.slots[row.slot];
            for k in std::mem::take(&mut place.again) {
                let (token, position) = (place.tokens[k], (place.first + k) as u32);
                waiting.push_back(Waiting { slot: row.slot, token, position, logits: None });
            }
            let logits = if row.logits { asked.next() } else { None };
            waiting.push_back(Waiting { slot: row.slot, token: row.token, position: row.position, logits });
        }
        Ok(waiting)
    }

    fn reserve_row(&mut self, i: usize, row: &Row) -> Result<(), Error> {
        self.check_slot(&format!("rows[{i}].slot"), row.slot)?;
        let place = &mut self.slots[row.slot];
        if place.written.is_none() {
            return Err(Error::input(format!("rows[{i}].slot"), "a slot that was begun", row.slot));
        }
        if place.tokens.is_empty() {
            place.first = Some(row.position as usize).filter(|first| *first < self.sizes.begins).unwrap_or(0);
        }
        let next = place.first + place.tokens.len();
        let field = || format!("rows[{i}].position");
        if next >= self.sizes.positions {
            return Err(Error::input(field(), "an unfinished sequence", row.position));
        }
        if row.position as usize != next {
            return Err(Error::input(field(), format_args!("{next}, the next of slot {}", row.slot), row.position));
        }
        place.tokens.push(row.token);
        Ok(())
    }

    /// Makes what was reserved computed, or, when the step failed, forgets the sequences.
    pub(super) fn settle(&mut self, rows: &[Row], computed: bool) {
        for row in rows {
            let place = &mut self.slots[row.slot];
            place.written = computed.then_some(place.tokens.len());
        }
    }

    /// Says that the slots' tokens are computed, though nobody did: they have places.
    pub(super) fn feign(&mut self, waiting: &VecDeque<Waiting>) {
        for token in waiting {
            self.place(token, token.position as usize >= self.sizes.text);
        }
    }

    /// Takes up to `most` tokens that can be computed together: of one image, one; with their places, and with the logits that they were asked for.
    pub(super) fn take(&mut self, waiting: &mut VecDeque<Waiting>, most: usize) -> Vec<(Placed, Option<usize>)> {
        let mut run = Vec::new();
        let mut drawn = vec![false; self.slots.len()];
        let mut left = VecDeque::new();
        for token in waiting.drain(..) {
            let of_image = token.position as usize >= self.sizes.text;
            if run.len() == most || drawn[token.slot] {
                left.push_back(token);
                continue;
            }
            drawn[token.slot] = of_image;
            run.push((self.place(&token, of_image), token.logits));
        }
        *waiting = left;
        run
    }

    fn place(&mut self, token: &Waiting, of_image: bool) -> Placed {
        let slot = &mut self.slots[token.slot];
        let text = *slot.text.get_or_insert_with(|| self.texts.take());
        let image = of_image.then(|| *slot.image.get_or_insert_with(|| self.images.take()));
        Placed { token: token.token, position: token.position, first: slot.first, text, image }
    }
}

#[cfg(test)]
mod tests;
