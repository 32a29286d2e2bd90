//! What a package asks for beyond the plain case: tokens behind rows, guidance that ends, ties, texts without padding.

use std::collections::BTreeMap;

use easel_package::{Padding, Ties};
use easel_sampler::{
    engine::{Candidate, Engine, Options, Request},
    logits::Parameters,
    model::Rules,
    slots::Pool,
};

use crate::{
    fake::{Control, Fake, by_the_book},
    harness::{Drawn, GEOMETRY, PLAIN, check_with, guided, read, request},
    package::{package, transformer},
};

fn fake(rules: &Rules, coarse: bool, sequences: usize) -> Fake {
    let mut fake = Fake::new(GEOMETRY, sequences);
    (fake.rules, fake.coarse) = (Rules { columns: 4, ..rules.clone() }, coarse);
    fake
}

/// Draws, and holds what came against the book.
fn draw(rules: &Rules, coarse: bool, request: &Request) -> (BTreeMap<u32, Drawn>, Control) {
    let options = Options { rows: 8, step_rows: 6, ..Options::default() };
    let model = fake(rules, coarse, Pool::sequences(options.rows));
    let control = model.control.clone();
    let engine = Engine::start(model, options, vec![16, 17, 18, 19], |_| ()).unwrap();
    control.reset();
    let drawn = read(&mut engine.submit(request.clone()).unwrap());
    check_with(|| fake(rules, coarse, 2), request, &drawn);
    let options = Options { guess_rows: 24, step_rows: 1024, ..options };
    let guessing =
        Engine::start(fake(rules, coarse, Pool::sequences(options.rows)), options, vec![16, 17, 18, 19], |_| ());
    let guessed = read(&mut guessing.unwrap().submit(request.clone()).unwrap());
    check_with(|| fake(rules, coarse, 2), request, &guessed);
    (drawn, control)
}

#[test]
fn tokens_behind_a_row_are_fed_and_neither_drawn_nor_sent() {
    let rules = Rules { row_end: vec![32, 33], ..Rules::default() };
    let given = [vec![], vec![(0, 9), (1, 8), (2, 7), (3, 6), (4, 5), (7, 3), (10, 2), (15, 1)]];
    for base in [request(2, &[5, 6]), guided(2, &[5])] {
        for (given, chunk_size) in given.iter().zip([4, 3]) {
            let one = Request { given: given.clone(), chunk_size, ..base.clone() };
            let (drawn, control) = draw(&rules, false, &one);
            assert!(drawn.values().all(|one| one.tokens.len() == 16 && one.tokens.iter().all(|&token| token < 32)));
            // Text, then rows of six; the last row's are not needed.
            let fed = control.steps().concat();
            let places = |token| fed.iter().filter(move |row| row.position >= 4 && row.token == token);
            assert!(
                places(32).all(|row| (row.position - 4) % 6 == 4) && places(33).all(|row| (row.position - 4) % 6 == 5)
            );
            assert!(places(33).any(|row| row.position == 4 + 17));
            assert!(fed.iter().all(|row| row.position < 4 + 22));
        }
    }
}

#[test]
fn guidance_ends_where_the_package_says() {
    let one = guided(3, &[7, 8]);
    let rules = Rules { guided_tokens: Some(5), ..Rules::default() };
    let (part, _) = draw(&rules, false, &one);
    let (whole, _) = draw(&Rules::default(), false, &one);
    let plain = Request { parameters: PLAIN, unconditional: None, ..one };
    let (none, _) = draw(&Rules::default(), false, &plain);
    assert_eq!(part[&0].tokens[..5], whole[&0].tokens[..5]);
    assert!(part[&0].tokens != whole[&0].tokens && part[&0].tokens[..5] != none[&0].tokens[..5]);
}

#[test]
fn tokens_as_likely_as_the_kth_are_kept_where_the_package_says() {
    let parameters = Parameters { temperature: 1.0, top_k: 3, top_p: 1.0, ..PLAIN };
    let one = Request { parameters, ..request(3, &[7, 8]) };
    let kept = Rules { top_k_ties: Ties::Kept, ..Rules::default() };
    let (kept, _) = draw(&kept, true, &one);
    let (cut, _) = draw(&Rules::default(), true, &one);
    assert_ne!(kept[&0].tokens, cut[&0].tokens);
}

/// A real package whose text has no pads: captions take the last of its positions.
#[test]
fn a_text_without_padding_draws_the_same_alone_and_among_others_of_other_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), "ragged", 1, easel_import::synthetic::Geometry::default());
    let mut manifest = package.manifest().clone();
    (manifest.text.padding, manifest.text.suffix) = (Padding::None, vec![2]);
    manifest.sampler.contract = "easel.sampler/2".to_owned();
    let package = easel_package::Package::seal(package.dir(), manifest).unwrap();
    let text = &package.manifest().text;
    let parameters = Parameters { temperature: 1.0, top_k: 50, top_p: 0.95, guidance_scale: 1.0 };
    let request = |caption: &[u32], scale: f32, seed: u64| Request {
        text: text.pad(caption),
        unconditional: (scale != 1.0).then(|| text.pad(&[])),
        candidates: vec![Candidate { id: 0, seed }, Candidate { id: 1, seed: seed + 1 }],
        parameters: Parameters { guidance_scale: scale, ..parameters },
        given: Vec::new(),
        chunk_size: 6,
        deadline: None,
    };
    let long: Vec<u32> = (3..18).collect();
    let requests = [request(&[5, 6, 7], 1.0, 0), request(&[], 1.0, 2), request(&[9], 2.5, 4), request(&long, 2.5, 6)];
    assert_eq!(requests.each_ref().map(|one| one.text.len()), [4, 1, 2, 16]);
    let options = Options { rows: 8, step_rows: 24, ..Options::default() };
    let engine = Engine::start(transformer(&package, Pool::sequences(8)), options, text.pad(&[]), |_| ()).unwrap();
    let mut events = requests.each_ref().map(|one| engine.submit(one.clone()).unwrap());
    for (one, events) in requests.iter().zip(&mut events) {
        let crowd = read(events);
        for candidate in &one.candidates {
            let (tokens, likelihoods) = by_the_book(&mut transformer(&package, 2), one, *candidate);
            let drawn = &crowd[&candidate.id];
            let statistics = drawn.statistics.unwrap();
            assert_eq!(drawn.tokens, tokens, "{candidate:?}");
            // To the bit.
            assert_eq!((statistics.log_likelihood, statistics.unconditional_log_likelihood), likelihoods);
        }
        assert_eq!(read(&mut engine.submit(one.clone()).unwrap())[&0].tokens, crowd[&0].tokens);
    }
    engine.stop();
}
