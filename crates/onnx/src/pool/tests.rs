//! The pool's bookkeeping.
#![allow(clippy::unwrap_used)]

use std::ops::Range;

use super::*;
use crate::{attend::Span, store::WAVE};

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
fn a_part_takes_its_memory_when_its_first_row_comes() {
    let mut pool = Pool::new(GEOMETRY, Precision::F32, 3);
    assert_eq!([Part::Text, Part::Image].map(|part| pool.layout().bytes(part)), [2 * 2 * 16 * 4; 2]);
    assert_eq!(Layout::new(GEOMETRY, Precision::Bf16).bytes(Part::Text), 2 * 2 * 16 * 2);
    pool.begin(1, None).unwrap();
    assert!(!pool.holds(1, 0));
    pool.reserve(&[row(1, 0)]).unwrap();
    assert!(pool.holds(1, 0) && pool.holds(1, 1) && !pool.holds(1, 2) && !pool.holds(2, 0));
    pool.reserve(&[row(1, 1), row(1, 2)]).unwrap();
    assert!(pool.holds(1, 3) && !pool.holds(1, 4) && !pool.holds(1, -1) && !pool.holds(3, 0));
    pool.settle(&[row(1, 2)], true);
    pool.begin(2, Some(Prefix { slot: 1, length: 2 })).unwrap();
    pool.reserve(&[row(2, 2)]).unwrap();
    assert!(pool.holds(2, 2) && !pool.holds(2, 0), "the text is another's");
}

#[test]
fn a_layer_keeps_what_its_mask_can_see() {
    let geometry = Geometry { layers: 4, text_length: 256, rows: 32, columns: 32, ..GEOMETRY };
    let mut layout = Layout::new(geometry, Precision::F32);
    let bytes = |positions: usize| positions * 2 * 16 * 4;
    assert_eq!(layout.bytes(Part::Image), bytes(4 * 1024));
    layout.keep(0, Mask::Row);
    layout.keep(1, Mask::Column);
    layout.keep(2, Mask::Convolution(11));
    assert_eq!([0, 1, 2, 3].map(|layer| layout.keeps_all(layer)), [false, true, false, true]);
    assert_eq!(layout.bytes(Part::Image), bytes(32 + WAVE + 1024 + 165 + WAVE + 1024));
    assert_eq!(layout.bytes(Part::Text), bytes(4 * 256));
    let places = |layer, positions: Range<usize>| {
        let mut spans = Vec::new();
        layout.push(layer, positions, 0, &mut spans);
        spans
    };
    let span = |image, start, length| Span { image, start, length };
    assert_eq!(places(0, 250..256 + 10), [span(false, 250, 6), span(true, 0, 10)]);
    assert_eq!(places(0, 256 + 90..256 + 100), [span(true, 42, 6), span(true, 0, 4)]);
    assert_eq!(places(3, 256 + 90..256 + 100), [span(true, 90, 10)]);
    let mut spans = places(1, 256 + 5..256 + 6);
    (1..32).for_each(|row| layout.push(1, 256 + 5 + 32 * row..256 + 6 + 32 * row, 0, &mut spans));
    assert_eq!(spans, [span(true, 5 * 32, 32)]);
}

#[test]
fn rows_follow_one_another() {
    let mut pool = Pool::new(GEOMETRY, Precision::F32, 2);
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
    let mut pool = Pool::new(GEOMETRY, Precision::F32, 2);
    pool.begin(0, None).unwrap();
    pool.begin(1, None).unwrap();
    pool.reserve(&[row(0, 0)]).unwrap();
    pool.settle(&[row(0, 0)], false);
    assert_eq!(refusal(&mut pool, &[row(0, 1)]), "rows[0].slot: expected a slot that was begun, found 0");
    pool.reserve(&[row(1, 0)]).unwrap();
}

#[test]
fn a_prefix_is_computed_whole_and_kept() {
    let mut pool = Pool::new(GEOMETRY, Precision::F32, 4);
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
    let mut pool = Pool::new(Geometry { ragged: true, ..GEOMETRY }, Precision::F32, 3);
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
    let mut pool = Pool::new(Geometry { shifts: 2, shift_width: 2, ..GEOMETRY }, Precision::F32, 2);
    pool.begin(0, None).unwrap();
    pool.reserve(&[row(0, 0)]).unwrap();
    pool.write_shifted(0, 1, 0, &[1.0, 2.0]);
    pool.settle(&[row(0, 0)], true);
    pool.begin(1, Some(Prefix { slot: 0, length: 1 })).unwrap();
    pool.reserve(&[row(1, 1)]).unwrap();
    pool.write_shifted(1, 1, 1, &[3.0, 4.0]);
    assert_eq!((pool.shifted(1, 1, 0), pool.shifted(1, 1, 1)), (&[1.0, 2.0][..], &[3.0, 4.0][..]));
    assert_eq!(pool.shifted(0, 1, 1), [0.0, 0.0]);
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let huge = Geometry { layers: 1024, heads: 1024, head_width: 1024, text_length: 1 << 20, ..GEOMETRY };
    let mut pool = Pool::new(huge, Precision::F32, 1);
    pool.begin(0, None).unwrap();
    assert!(matches!(pool.reserve(&[row(0, 0)]), Err(Error::Exhausted { .. })));
}

#[test]
fn the_last_image_positions_can_be_taken_back() {
    let mut pool = Pool::new(Geometry { rows: 32, columns: 32, ..GEOMETRY }, Precision::F32, 1);
    let written = |pool: &mut Pool, positions: Range<u32>| {
        let rows: Vec<Row> = positions.map(|position| row(0, position)).collect();
        pool.reserve(&rows).unwrap();
        pool.settle(&rows, true);
    };
    let refused = |pool: &mut Pool, length| pool.rewind(0, length).unwrap_err().to_string();
    assert!(refused(&mut pool, 0).contains("length: expected 2 … 0, found 0"), "a slot that was not begun");
    pool.begin(0, None).unwrap();
    written(&mut pool, 0..10);
    assert!(refused(&mut pool, 1).contains("length: expected 2 … 10, found 1"), "no text is taken back");
    pool.rewind(0, 4).unwrap();
    assert!(refusal(&mut pool, &[row(0, 10)]).contains("4, the next of slot 0"));
    written(&mut pool, 4..40);
    assert!(refused(&mut pool, 39 - WAVE).contains("length: expected 24 … 40, found 23"));
    pool.rewind(0, 40 - WAVE).unwrap();
    written(&mut pool, 24..25);
}
