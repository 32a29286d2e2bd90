//! Who holds which place of the transformer's key/value pool.

mod prefixes;

use prefixes::Prefixes;

/// The places of one sequence, or of the two that guidance needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Places {
    /// Of the sequence with the caption.
    pub conditional: usize,
    /// Of the sequence without it; none: no guidance.
    pub unconditional: Option<usize>,
}

impl Places {
    /// How many they are.
    pub fn count(&self) -> usize {
        1 + usize::from(self.unconditional.is_some())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::once(self.conditional).chain(self.unconditional)
    }
}

/// Places for candidates (the rows of a step), and others for the prefixes that candidates share.
#[derive(Debug)]
pub struct Pool {
    rows: Vec<usize>,
    prefixes: Prefixes,
    total: usize,
}

impl Pool {
    /// A pool with `rows` places for candidates, 0 … rows − 1, and as many for prefixes behind them.
    pub fn new(rows: usize) -> Self {
        Self { rows: (0..rows).rev().collect(), prefixes: Prefixes::new(rows..Self::sequences(rows)), total: rows }
    }

    /// Sequences that the transformer must hold for `rows` rows: every row's request may need a prefix of its own.
    pub const fn sequences(rows: usize) -> usize {
        2 * rows
    }

    /// Rows in all.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Rows that nobody holds.
    pub fn free(&self) -> usize {
        self.rows.len()
    }

    /// Rows that are held.
    pub fn used(&self) -> usize {
        self.total - self.rows.len()
    }

    /// Rows for a candidate; none: too few are free.
    pub fn take_rows(&mut self, guided: bool) -> Option<Places> {
        take(&mut self.rows, guided)
    }

    /// Places for the prefix of a request, with and without its caption; none: too few are free. One that is kept with the same tokens is shared.
    pub fn take_prefix(&mut self, tokens: &[u32], unconditional: Option<&[u32]>) -> Option<Places> {
        let conditional = self.prefixes.take(tokens)?;
        let Some(tokens) = unconditional else { return Some(Places { conditional, unconditional: None }) };
        let unconditional = self.prefixes.take(tokens);
        if unconditional.is_none() {
            self.prefixes.release(conditional);
        }
        Some(Places { conditional, unconditional: Some(unconditional?) })
    }

    /// The logits behind a prefix; none: it has not been computed.
    pub fn logits(&self, prefix: usize) -> Option<&[f32]> {
        self.prefixes.logits(prefix)
    }

    /// A prefix that was taken is computed: others may read it too, now and when it was given back.
    pub fn keep(&mut self, prefix: usize, tokens: &[u32], logits: &[f32]) {
        self.prefixes.keep(prefix, tokens, logits);
    }

    /// Gives back what one of the others took.
    pub fn release(&mut self, places: Places) {
        for place in places.iter() {
            if place < self.total {
                debug_assert!(!self.rows.contains(&place), "place {place} is free already");
                self.rows.push(place);
            } else {
                self.prefixes.release(place);
            }
        }
    }
}

fn take(free: &mut Vec<usize>, guided: bool) -> Option<Places> {
    if free.len() < 1 + usize::from(guided) {
        return None;
    }
    let conditional = free.pop()?;
    let unconditional = if guided { free.pop() } else { None };
    Some(Places { conditional, unconditional })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_candidate_takes_one_row_or_two() {
        let mut pool = Pool::new(3);
        let guided = pool.take_rows(true).unwrap();
        assert_eq!(guided, Places { conditional: 0, unconditional: Some(1) });
        assert_eq!((pool.used(), pool.free(), pool.total()), (2, 1, 3));
        assert_eq!(pool.take_rows(true), None, "one row is free, two are needed");
        let plain = pool.take_rows(false).unwrap();
        assert_eq!(plain, Places { conditional: 2, unconditional: None });
        assert_eq!(pool.take_rows(false), None);
        pool.release(guided);
        assert_eq!(pool.free(), 2);
        pool.release(plain);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn prefixes_lie_behind_the_rows() {
        let mut pool = Pool::new(2);
        let prefix = pool.take_prefix(&[1, 2], Some(&[0, 0])).unwrap();
        assert!(prefix.iter().all(|place| (2..Pool::sequences(2)).contains(&place)));
        assert_eq!((pool.take_prefix(&[3, 4], None), pool.free()), (None, 2));
        pool.release(prefix);
        let one = pool.take_prefix(&[3, 4], None).unwrap();
        assert_eq!(pool.take_prefix(&[1, 2], Some(&[0, 0])), None, "there is one place, and it is not lost");
        assert!(pool.take_prefix(&[1, 2], None).is_some_and(|other| other.conditional != one.conditional));
    }
}
