//! Requests that come, go, and fail at any moment, on a real transformer: those that live draw what the book says.

use std::collections::HashMap;

use easel_import::synthetic;
use easel_package::Package;
use easel_sampler::{
    draws,
    engine::{Candidate, Engine, Event, Events, Failure, Options, Request},
    logits::Parameters,
    model::{self, Geometry, Model, Prefix, Row, Transformer},
    slots::Pool,
};

use crate::{
    fake::by_the_book,
    package::{package, transformer},
};

/// A transformer whose larger steps fail now and then: before anything is done, or halfway through.
struct Unreliable {
    inner: Transformer,
    steps: usize,
}

impl Model for Unreliable {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn sequences(&self) -> usize {
        self.inner.sequences()
    }

    fn device(&self) -> String {
        self.inner.device()
    }

    fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), model::Error> {
        self.inner.begin(slot, prefix)
    }

    fn step(&mut self, rows: &[Row]) -> Result<&[f32], model::Error> {
        // Not the steps that tell whether the model still works.
        if rows.iter().any(|row| row.slot != rows[0].slot) {
            self.steps += 1;
            if self.steps.is_multiple_of(23) {
                return Err(model::Error::Refused("as told".into()));
            }
            if self.steps.is_multiple_of(41) {
                self.inner.step(&rows[..rows.len() / 2])?;
                return Err(model::Error::Failed("as told".into()));
            }
        }
        self.inner.step(rows)
    }
}

/// Numbers that look random.
struct Random(u32);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 += 1;
        draws::philox([self.0, 0, 0, 0], [11, 13])[0] % bound
    }
}

/// A request of one of a few kinds.
fn request(package: &Package, kind: u32, seeds: &[u64]) -> Request {
    let text = &package.manifest().text;
    let guided = kind.is_multiple_of(2);
    let given = if kind == 3 { vec![(0, 3), (1, 5), (9, 150), (10, 0)] } else { Vec::new() };
    Request {
        text: text.pad(&[5, kind / 2, 7][..kind as usize % 4]),
        unconditional: guided.then(|| text.pad(&[])),
        candidates: (0..).zip(seeds).map(|(id, &seed)| Candidate { id, seed }).collect(),
        parameters: Parameters {
            temperature: 1.0,
            top_k: 0,
            top_p: 0.98,
            guidance_scale: if guided { 1.5 } else { 1.0 },
        },
        given,
        chunk_size: 1 + kind as usize,
        deadline: None,
    }
}

/// The tokens of every candidate; none: a step failed.
fn read(events: &mut Events) -> Option<HashMap<u32, Vec<u32>>> {
    let mut drawn: HashMap<u32, Vec<u32>> = HashMap::new();
    while let Some(event) = events.blocking_next() {
        match event {
            Ok(Event::Chunk { candidate, tokens, .. }) => drawn.entry(candidate).or_default().extend(tokens),
            Ok(_) => {}
            Err(Failure::Model(_)) => return None,
            Err(failure) => panic!("{failure}"),
        }
    }
    Some(drawn)
}

#[test]
fn no_order_of_arrivals_departures_and_failures_changes_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let geometry = synthetic::Geometry { grid: 4, ..synthetic::Geometry::default() };
    let package = package(dir.path(), "tiny", 1, geometry);
    let rows = 5;
    let model = Unreliable { inner: transformer(&package, Pool::sequences(rows)), steps: 0 };
    let options = Options { rows, step_rows: 20, events: 3, ..Options::default() };
    let engine = Engine::start(model, options, package.manifest().text.pad(&[]), |_| ()).unwrap();
    let random = &mut Random(0);
    let mut readers = Vec::new();
    for _ in 0..90 {
        let kind = random.below(6);
        let seeds: Vec<u64> = (0..1 + random.below(4)).map(|_| random.below(5).into()).collect();
        let request = request(&package, kind, &seeds);
        let mut events = loop {
            match engine.submit(request.clone()) {
                Ok(events) => break events,
                Err(_) => std::thread::yield_now(),
            }
        };
        // A third leaves after some events, of the queue or of the batch.
        let leaves = (random.below(3) == 0).then(|| random.below(12));
        readers.push((
            kind,
            request,
            std::thread::spawn(move || match leaves {
                Some(after) => {
                    (0..after).for_each(|_| drop(events.blocking_next()));
                    None
                }
                None => read(&mut events),
            }),
        ));
    }
    let mut book = transformer(&package, 2);
    let mut expected = HashMap::new();
    let mut held = 0;
    for (kind, request, reader) in readers {
        let Some(drawn) = reader.join().unwrap() else { continue };
        held += 1;
        for candidate in &request.candidates {
            let by_the_book = || by_the_book(&mut book, &request, *candidate).0;
            let tokens = expected.entry((kind, candidate.seed)).or_insert_with(by_the_book);
            assert_eq!(drawn[&candidate.id], *tokens, "kind {kind}, {candidate:?}");
        }
    }
    assert!(held > 10, "{held}");
    engine.stop();
    assert_eq!((engine.load().rows_used, engine.load().queued), (0, 0));
}
