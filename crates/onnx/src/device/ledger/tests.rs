#![allow(clippy::unwrap_used)]

use super::*;

const SIZES: Sizes = Sizes { positions: 6, text: 3, begins: 1 };

fn row(slot: usize, position: u32) -> Row {
    Row { slot, token: 10 * slot as u32 + position, position, logits: position >= 2 }
}

fn refusal(ledger: &mut Ledger, rows: &[Row]) -> String {
    ledger.reserve(rows).unwrap_err().to_string()
}

/// Computes positions of a slot.
fn compute(ledger: &mut Ledger, slot: usize, positions: Range<u32>) -> Vec<Vec<Placed>> {
    let rows: Vec<Row> = positions.map(|position| row(slot, position)).collect();
    let mut waiting = ledger.reserve(&rows).unwrap();
    let mut runs = Vec::new();
    while !waiting.is_empty() {
        runs.push(ledger.take(&mut waiting, 4).into_iter().map(|(placed, _)| placed).collect());
    }
    ledger.settle(&rows, true);
    runs
}

#[test]
fn a_text_goes_at_once_and_an_image_token_by_token() {
    let mut ledger = Ledger::new(SIZES, 2);
    ledger.begin(0, None).unwrap();
    let runs = compute(&mut ledger, 0, 0..6);
    let positions: Vec<Vec<u32>> = runs.iter().map(|run| run.iter().map(|placed| placed.position).collect()).collect();
    assert_eq!(positions, [vec![0, 1, 2, 3], vec![4], vec![5]]);
    assert!(runs.iter().flatten().all(|placed| placed.text == 1 && placed.image == (placed.position > 2).then_some(0)));
    assert_eq!(refusal(&mut ledger, &[row(0, 6)]), "rows[0].position: expected an unfinished sequence, found 6");
}

#[test]
fn candidates_share_a_text_until_the_last_of_them_has_gone() {
    let mut ledger = Ledger::new(SIZES, 4);
    ledger.begin(3, None).unwrap();
    compute(&mut ledger, 3, 0..3);
    let prefix = Some(Prefix { slot: 3, length: 3 });
    for slot in [0, 1] {
        ledger.begin(slot, prefix).unwrap();
        let runs = compute(&mut ledger, slot, 3..4);
        assert_eq!((runs[0][0].text, runs[0][0].image, runs[0].len()), (1, Some(slot), 1));
    }
    ledger.begin(3, None).unwrap();
    ledger.begin(0, None).unwrap();
    assert_eq!(compute(&mut ledger, 0, 0..1)[0][0].text, 2, "slot 1 still reads text 1");
    ledger.begin(1, None).unwrap();
    assert_eq!(compute(&mut ledger, 1, 0..1)[0][0].text, 1);
    assert_eq!(ledger.reach(), [3, 2]);
}

#[test]
fn what_cannot_be_shared_is_computed_again() {
    let mut ledger = Ledger::new(SIZES, 3);
    ledger.begin(0, None).unwrap();
    compute(&mut ledger, 0, 0..5);
    ledger.begin(1, Some(Prefix { slot: 0, length: 5 })).unwrap();
    let tokens = |runs: Vec<Vec<Placed>>| runs.concat().iter().map(|placed| placed.token).collect::<Vec<_>>();
    assert_eq!(refusal(&mut ledger, &[row(1, 5), row(1, 5)]).split(':').next(), Some("rows[1].position"));
    assert_eq!(tokens(compute(&mut ledger, 1, 5..6)), [3, 4, 15]);
    ledger.begin(2, Some(Prefix { slot: 1, length: 2 })).unwrap();
    assert_eq!(tokens(compute(&mut ledger, 2, 2..4)), [0, 1, 22, 23]);
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let mut ledger = Ledger::new(SIZES, 2);
    assert_eq!(refusal(&mut ledger, &[row(0, 0)]), "rows[0].slot: expected a slot that was begun, found 0");
    ledger.begin(0, None).unwrap();
    assert_eq!(refusal(&mut ledger, &[row(2, 0)]), "rows[0].slot: expected 0 … 1, found 2");
    let message = "rows[1].position: expected 1, the next of slot 0, found 2";
    assert_eq!(refusal(&mut ledger, &[row(0, 0), row(0, 2)]), message);
    compute(&mut ledger, 0, 0..2);
    let mut refused = |slot, prefix| ledger.begin(slot, Some(prefix)).unwrap_err().to_string();
    let message = "prefix.length: expected 1 … 2, what slot 0 holds, found 3";
    assert_eq!(refused(1, Prefix { slot: 0, length: 3 }), message);
    assert_eq!(refused(1, Prefix { slot: 1, length: 1 }), "prefix.slot: expected another slot, found 1");
    ledger.reserve(&[row(0, 2)]).unwrap();
    ledger.settle(&[row(0, 2)], false);
    assert_eq!(refusal(&mut ledger, &[row(0, 3)]), "rows[0].slot: expected a slot that was begun, found 0");
}

#[test]
fn a_text_without_pads_begins_where_it_must() {
    let mut ledger = Ledger::new(Sizes { begins: 3, ..SIZES }, 2);
    ledger.begin(0, None).unwrap();
    assert_eq!(refusal(&mut ledger, &[row(0, 3)]), "rows[0].position: expected 0, the next of slot 0, found 3");
    assert!(compute(&mut ledger, 0, 1..4).concat().iter().all(|placed| placed.first == 1));
    ledger.begin(1, Some(Prefix { slot: 0, length: 3 })).unwrap();
    let runs = compute(&mut ledger, 1, 3..4);
    assert_eq!((runs[0][0].first, runs[0][0].text, runs[0].len()), (1, 1, 1));
}
