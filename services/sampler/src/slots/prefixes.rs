//! The places of prefixes. One that was computed is kept when nobody reads it any more, for the next request that begins alike: the empty caption of guidance
//! is the same for all. It gives way, the longest unused first, to others that find no free place.

#[derive(Debug)]
pub(super) struct Prefixes {
    free: Vec<usize>,
    kept: Vec<Kept>,
    /// Counts the times that somebody stopped reading.
    clock: u64,
}

/// A prefix that was computed.
#[derive(Debug)]
struct Kept {
    place: usize,
    tokens: Vec<u32>,
    /// Of the token behind it.
    logits: Vec<f32>,
    readers: usize,
    left: u64,
}

impl Prefixes {
    pub(super) fn new(places: std::ops::Range<usize>) -> Self {
        Self { free: places.rev().collect(), kept: Vec::new(), clock: 0 }
    }

    /// The place of a prefix: where it is kept, else one that is free, or that nobody reads.
    pub(super) fn take(&mut self, tokens: &[u32]) -> Option<usize> {
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.tokens == tokens) {
            kept.readers += 1;
            return Some(kept.place);
        }
        let unread = self.kept.iter().enumerate().filter(|(_, kept)| kept.readers == 0);
        let oldest = unread.min_by_key(|(_, kept)| kept.left).map(|(index, _)| index);
        self.free.pop().or_else(|| oldest.map(|index| self.kept.swap_remove(index).place))
    }

    /// What is behind the prefix in `place`; none: it has not been computed.
    pub(super) fn logits(&self, place: usize) -> Option<&[f32]> {
        self.kept.iter().find(|kept| kept.place == place).map(|kept| &*kept.logits)
    }

    /// The prefix in `place`, which somebody took, is computed.
    pub(super) fn keep(&mut self, place: usize, tokens: &[u32], logits: &[f32]) {
        if self.logits(place).is_none() {
            self.kept.push(Kept { place, tokens: tokens.to_vec(), logits: logits.to_vec(), readers: 1, left: 0 });
        }
    }

    /// Somebody reads it no more.
    pub(super) fn release(&mut self, place: usize) {
        self.clock += 1;
        match self.kept.iter_mut().find(|kept| kept.place == place) {
            Some(kept) => (kept.readers, kept.left) = (kept.readers - 1, self.clock),
            None => self.free.push(place),
        }
    }

    #[cfg(test)]
    pub(super) fn is_free(&self, place: usize) -> bool {
        self.free.contains(&place)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::Prefixes;

    #[test]
    fn what_was_computed_is_found_again_until_its_place_is_needed() {
        let mut prefixes = Prefixes::new(4..6);
        let (a, b) = (prefixes.take(&[1]).unwrap(), prefixes.take(&[2]).unwrap());
        assert_eq!((a, b, prefixes.take(&[1])), (4, 5, None), "one that is still computed is nobody else's");
        prefixes.keep(a, &[1], &[0.5]);
        assert_eq!((prefixes.take(&[1]), prefixes.logits(a), prefixes.logits(b)), (Some(a), Some(&[0.5][..]), None));
        prefixes.release(a);
        assert_eq!(prefixes.take(&[3]), None, "the first still reads it");
        prefixes.release(a);
        prefixes.keep(b, &[2], &[0.25]);
        prefixes.release(b);
        assert_eq!(prefixes.take(&[3]), Some(a), "it was left before the other");
        assert_eq!(prefixes.logits(a), None);
        assert_eq!(prefixes.take(&[2]), Some(b));
    }

    #[test]
    fn what_was_never_computed_leaves_its_place_free() {
        let mut prefixes = Prefixes::new(0..1);
        let place = prefixes.take(&[1]).unwrap();
        prefixes.release(place);
        assert!(prefixes.is_free(place));
        assert_eq!((prefixes.take(&[1]), prefixes.logits(place)), (Some(place), None));
    }
}
