//! The sampler's engine: no bit of a sequence depends on how it was computed, and nothing wrong gets in.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, Random, cpu, middle, tiny};
use easel_import::{ImportOptions, Weights, synthetic::Geometry};
use easel_onnx::{Prefix, Row, Runtime, Transformer};
use easel_package::Package;

/// Captions, the second half of them equal to the first caption, and their pictures.
struct Sequences {
    text_length: usize,
    tokens: Vec<Vec<u32>>,
}

/// The logits after every position, from the last text position on, of every sequence.
type Logits = Vec<Vec<Vec<f32>>>;

impl Sequences {
    fn random(package: &Package, count: usize, random: &mut Random) -> Self {
        let manifest = package.manifest();
        let text_length = manifest.text.length as usize;
        let mut caption = || (0..text_length).map(|_| random.below(manifest.text.vocabulary as usize) as u32).collect();
        let mut tokens: Vec<Vec<u32>> = (0..count.div_ceil(2)).map(|_| caption()).collect();
        tokens.resize(count, tokens[0].clone());
        for tokens in &mut tokens {
            tokens.extend((0..manifest.grid.cells()).map(|_| random.below(manifest.codebook as usize) as u32));
        }
        Self { text_length, tokens }
    }

    fn row(&self, slot: usize, position: usize) -> Row {
        let logits = position + 1 >= self.text_length;
        Row { slot, token: self.tokens[slot][position], position: position as u32, logits }
    }

    fn collect(&self, transformer: &mut Transformer, rows: &[Row], codebook: usize, logits: &mut Logits) {
        let out = transformer.step(rows).unwrap();
        let wanted = rows.iter().filter(|row| row.logits);
        assert_eq!(out.len(), wanted.clone().count() * codebook);
        for (row, out) in wanted.zip(out.chunks_exact(codebook)) {
            logits[row.slot].push(out.to_vec());
        }
    }

    /// Each sequence alone, token by token.
    fn alone(&self, transformer: &mut Transformer, codebook: usize) -> Logits {
        let mut logits = vec![Vec::new(); self.tokens.len()];
        for slot in 0..self.tokens.len() {
            transformer.begin(slot, None).unwrap();
            for position in 0..self.tokens[slot].len() {
                self.collect(transformer, &[self.row(slot, position)], codebook, &mut logits);
            }
        }
        logits
    }

    /// All at once: captions as prefills, then one token of each sequence a step, in any order.
    fn in_step(&self, transformer: &mut Transformer, codebook: usize, random: &mut Random) -> Logits {
        let mut logits = vec![Vec::new(); self.tokens.len()];
        for slot in 0..self.tokens.len() {
            transformer.begin(slot, None).unwrap();
            let rows: Vec<Row> = (0..self.text_length).map(|position| self.row(slot, position)).collect();
            self.collect(transformer, &rows, codebook, &mut logits);
        }
        for position in self.text_length..self.tokens[0].len() {
            let mut rows: Vec<Row> = (0..self.tokens.len()).map(|slot| self.row(slot, position)).collect();
            random.shuffle(&mut rows);
            self.collect(transformer, &rows, codebook, &mut logits);
        }
        logits
    }

    /// Everything in one call.
    fn at_once(&self, transformer: &mut Transformer, codebook: usize) -> Logits {
        let mut logits = vec![Vec::new(); self.tokens.len()];
        let mut rows = Vec::new();
        for (slot, tokens) in self.tokens.iter().enumerate() {
            transformer.begin(slot, None).unwrap();
            rows.extend((0..tokens.len()).map(|position| self.row(slot, position)));
        }
        self.collect(transformer, &rows, codebook, &mut logits);
        logits
    }

    /// Any number of tokens of any sequences in a call; the sequences with the first caption read it from a slot of its own.
    fn ragged(&self, transformer: &mut Transformer, codebook: usize, random: &mut Random) -> Logits {
        let count = self.tokens.len();
        let mut logits = vec![Vec::new(); count];
        transformer.begin(count, None).unwrap();
        let caption = |position| Row { slot: count, ..self.row(0, position) };
        let rows: Vec<Row> = (0..self.text_length).map(caption).collect();
        let first = transformer.step(&rows).unwrap().to_vec();
        let mut next = vec![0; count];
        for slot in 0..count {
            let shared = self.tokens[slot][..self.text_length] == self.tokens[0][..self.text_length];
            let prefix = shared.then_some(Prefix { slot: count, length: self.text_length as u32 });
            transformer.begin(slot, prefix).unwrap();
            if shared {
                next[slot] = self.text_length;
                logits[slot].push(first.clone());
            }
        }
        while next.iter().any(|&next| next < self.tokens[0].len()) {
            let mut rows = Vec::new();
            for _ in 0..=random.below(40) {
                let slot = random.below(count);
                if next[slot] < self.tokens[slot].len() {
                    rows.push(self.row(slot, next[slot]));
                    next[slot] += 1;
                }
            }
            self.collect(transformer, &rows, codebook, &mut logits);
        }
        logits
    }
}

fn hold_bits(geometry: &Geometry, count: usize) {
    hold_bits_of(&Fixture::new(geometry), count);
}

fn hold_bits_of(fixture: &Fixture, count: usize) {
    let codebook = fixture.package.manifest().codebook as usize;
    let runtime = Runtime::load().unwrap();
    let random = &mut Random(9);
    let sequences = Sequences::random(&fixture.package, count, random);
    let mut expected = None;
    for threads in [1, 2, 3] {
        let mut transformer = Transformer::load(&runtime, &fixture.package, &cpu(threads), count + 1).unwrap();
        let expected = expected.get_or_insert_with(|| sequences.alone(&mut transformer, codebook));
        assert!(
            expected.iter().flatten().flatten().all(|logit| logit.is_finite()) && expected[0] != expected[count - 1]
        );
        assert!(sequences.in_step(&mut transformer, codebook, random) == *expected, "in step, {threads} threads");
        assert!(sequences.at_once(&mut transformer, codebook) == *expected, "at once, {threads} threads");
        assert!(sequences.ragged(&mut transformer, codebook, random) == *expected, "ragged, {threads} threads");
    }
}

#[test]
fn a_tiny_models_bits_do_not_depend_on_company_threads_or_prefill() {
    hold_bits(&tiny(), 16);
}

#[test]
fn bits_of_weights_in_blocks_do_not_depend_on_company_threads_or_prefill() {
    for weights in [Weights::Q8, Weights::Q4] {
        let options = ImportOptions { weights, ..ImportOptions::default() };
        hold_bits_of(&Fixture::import(&tiny(), &options), 7);
    }
}

#[test]
fn a_width_that_fills_no_register_changes_no_bits() {
    hold_bits(&Geometry { width: 30, heads: 3, ..tiny() }, 6);
}

#[test]
fn a_larger_models_bits_do_not_depend_on_company_threads_or_prefill() {
    hold_bits(&middle(), 8);
}

/// What a slot holds while slots are begun, read as prefixes, and given up at random.
#[derive(Clone, Copy)]
struct Held {
    sequence: usize,
    next: usize,
    /// The slot that its first positions are read from.
    prefix: Option<usize>,
}

/// Begins `slot` with a sequence, behind what another slot holds of it where that can be.
fn begin_any(
    transformer: &mut Transformer,
    held: &mut [Option<Held>],
    slot: usize,
    sequences: &Sequences,
    random: &mut Random,
) {
    let sequence = random.below(sequences.tokens.len());
    let shared = |other: &Held| {
        let (a, b) = (&sequences.tokens[sequence], &sequences.tokens[other.sequence]);
        a.iter().zip(b).take(other.next).take_while(|(a, b)| a == b).count()
    };
    let sources = held.iter().enumerate().filter(|(source, _)| *source != slot);
    let sources = sources.filter_map(|(source, held)| Some((source, held.filter(|held| held.prefix.is_none())?)));
    let prefix = sources.map(|(source, held)| (source, shared(&held))).find(|(_, length)| *length > 0);
    // Of an image, what a slot holds can be had whole.
    let whole = |slot: usize| held[slot].filter(|held| held.sequence == sequence).map(|held| held.next);
    let prefix = prefix.map(|(slot, length)| match whole(slot) {
        Some(all) if random.below(2) == 0 => Prefix { slot, length: all as u32 },
        _ => Prefix { slot, length: 1 + random.below(length.min(sequences.text_length)) as u32 },
    });
    transformer.begin(slot, prefix).unwrap();
    let next = prefix.map_or(0, |prefix| prefix.length as usize);
    held[slot] = Some(Held { sequence, next, prefix: prefix.map(|prefix| prefix.slot) });
}

#[test]
fn slots_that_are_given_up_and_begun_anew_leave_no_trace() {
    const SLOTS: usize = 7;
    let fixture = Fixture::new(&tiny());
    let codebook = fixture.package.manifest().codebook as usize;
    let random = &mut Random(17);
    let sequences = Sequences::random(&fixture.package, 6, random);
    let runtime = Runtime::load().unwrap();
    let load = |sequences| Transformer::load(&runtime, &fixture.package, &cpu(2), sequences).unwrap();
    let expected = sequences.alone(&mut load(sequences.tokens.len()), codebook);
    let mut transformer = load(SLOTS);
    let mut held: Vec<Option<Held>> = vec![None; SLOTS];
    let mut compared = 0;
    for _ in 0..400 {
        let slot = random.below(SLOTS);
        // A slot that others read stays as it is, as the pool's contract has it.
        if random.below(3) == 0 && !held.iter().flatten().any(|held| held.prefix == Some(slot)) {
            begin_any(&mut transformer, &mut held, slot, &sequences, random);
        }
        let (mut rows, mut origins) = (Vec::new(), Vec::new());
        let before = held.clone();
        for _ in 0..random.below(24) {
            let slot = random.below(SLOTS);
            let Some(held) = held[slot].as_mut().filter(|held| held.next < sequences.tokens[0].len()) else { continue };
            rows.push(Row { slot, ..sequences.row(held.sequence, held.next) });
            origins.push(*held);
            held.next += 1;
        }
        if random.below(8) == 0 {
            // Refused as a whole: another try must find everything as it was.
            rows.push(Row { slot: SLOTS, token: 0, position: 0, logits: true });
            assert!(transformer.step(&rows).is_err());
            held = before;
            continue;
        }
        let wanted = rows.iter().zip(&origins).filter(|(row, _)| row.logits).map(|(_, origin)| origin);
        let out = transformer.step(&rows).unwrap();
        for (origin, out) in wanted.zip(out.chunks_exact(codebook)) {
            let place = origin.next + 1 - sequences.text_length;
            assert!(out == expected[origin.sequence][place], "sequence {}, place {place}", origin.sequence);
            compared += 1;
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn an_engine_can_move_to_its_thread() {
    fn moves<T: Send>() {}
    moves::<Transformer>();
    moves::<easel_onnx::ImageDecoder>();
    moves::<easel_onnx::ImageEncoder>();
    moves::<easel_onnx::Clip>();
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let fixture = Fixture::new(&tiny());
    let manifest = fixture.package.manifest();
    let mut transformer = Transformer::load(&Runtime::load().unwrap(), &fixture.package, &cpu(1), 2).unwrap();
    assert_eq!((transformer.device(), transformer.sequences()), ("cpu", 2));
    let positions = manifest.text.length as usize + manifest.grid.cells();
    // Four layers, two heads of 16. Of the 6×6 image, the row's layer keeps 6 + 16 positions, the one of the 3×3 square 7 + 16.
    assert_eq!(transformer.kv_bytes_per_sequence(), 2 * (4 * 16 + 22 + 36 + 23 + 36) * 32 * 4);
    assert_eq!(transformer.kv_bytes_per_candidate(), 2 * (22 + 36 + 23 + 36) * 32 * 4);
    let row = |slot, token, position| Row { slot, token, position, logits: true };

    transformer.begin(0, None).unwrap();
    let expected = transformer.step(&[row(0, 1, 0)]).unwrap().to_vec();
    transformer.begin(0, None).unwrap();
    let text = manifest.text.vocabulary;
    let mut refused = |rows: &[Row], message: &str| {
        assert_eq!(transformer.step(rows).unwrap_err().to_string(), message);
    };
    let message = format!("rows[0].token: expected a text id of 0 … {}, found {text}", text - 1);
    refused(&[row(0, text, 0)], &message);
    refused(&[row(0, 200, 16)], "rows[0].token: expected an image id of 0 … 199, found 200");
    refused(&[row(1, 0, 0)], "rows[0].slot: expected a slot that was begun, found 1");
    refused(&[row(2, 0, 0)], "rows[0].slot: expected 0 … 1, found 2");
    refused(&[row(0, 0, 0), row(0, 0, 2)], "rows[1].position: expected 1, the next of slot 0, found 2");
    refused(&[row(0, 0, u32::MAX)], &format!("rows[0].position: expected 0, the next of slot 0, found {}", u32::MAX));
    let error = transformer.begin(2, None).unwrap_err().to_string();
    assert_eq!(error, "slot: expected 0 … 1, found 2");
    assert_eq!(transformer.step(&[]).unwrap(), [0.0; 0]);
    assert!(transformer.step(&[row(0, 1, 0)]).unwrap() == expected);

    let silent: Vec<Row> = (1..16).map(|position| Row { logits: false, ..row(0, 0, position) }).collect();
    assert_eq!(transformer.step(&silent).unwrap(), [0.0; 0]);
    for position in 16..positions as u32 {
        assert_eq!(transformer.step(&[row(0, 3, position)]).unwrap().len(), 200);
    }
    let message = format!("rows[0].position: expected an unfinished sequence, found {positions}");
    assert_eq!(transformer.step(&[row(0, 3, positions as u32)]).unwrap_err().to_string(), message);
}
