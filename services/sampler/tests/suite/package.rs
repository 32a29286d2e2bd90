//! A real package of random weights on ONNX Runtime: what the engine draws against the same transformer used by the book.

use std::{collections::BTreeMap, path::Path};

use clap::Parser;
use easel_import::{ImportOptions, import, synthetic};
use easel_onnx::{Options, Runtime};
use easel_package::Package;
use easel_proto::v1::{PackageRef, SampleRequest, SamplingParameters, sample_request::Candidate as Message};
use easel_sampler::{
    Config,
    engine::{self, Candidate, Engine, Request, Statistics},
    logits::Parameters,
    model::{Model, Row, Transformer},
    slots::Pool,
};
use tokio::{net::TcpListener, sync::oneshot};

use crate::{
    fake::by_the_book,
    harness::{Drawn, connect, read, receive, status},
};

pub(crate) fn package(dir: &Path, name: &str, seed: u64, geometry: synthetic::Geometry) -> Package {
    let checkpoint = dir.join(format!("{name}-checkpoint"));
    let geometry = synthetic::Geometry { name: name.to_owned(), ..geometry };
    synthetic::checkpoint(&checkpoint, &geometry, seed).unwrap();
    import(&checkpoint, &dir.join(name), &ImportOptions::default(), &mut |_| ()).unwrap()
}

pub(crate) fn transformer(package: &Package, sequences: usize) -> Transformer {
    let runtime = Runtime::load().unwrap();
    let options = Options { threads: 2, ..Options::default() };
    let inner = easel_onnx::Transformer::load(&runtime, package, &options, sequences).unwrap();
    Transformer::new(inner, package.manifest())
}

/// Requests of all kinds: greedy, drawn, guided, with given tokens.
fn requests(package: &Package) -> Vec<Request> {
    let text = &package.manifest().text;
    let empty = text.pad(&[]);
    let plain = Parameters { temperature: 1.0, top_k: 50, top_p: 0.95, guidance_scale: 1.0 };
    let greedy = Parameters { temperature: 0.0, ..plain };
    let guided = Parameters { guidance_scale: 2.5, ..plain };
    let request = |caption: &[u32], parameters, seeds: std::ops::Range<u64>, given: &[(u32, u32)]| Request {
        text: text.pad(caption),
        unconditional: (parameters != plain && parameters != greedy).then(|| empty.clone()),
        candidates: (0..).zip(seeds).map(|(id, seed)| Candidate { id, seed }).collect(),
        parameters,
        given: given.to_vec(),
        chunk_size: 6,
        deadline: None,
    };
    vec![
        request(&[5, 6, 7], greedy, 0..1, &[]),
        request(&[5, 6, 7], plain, 0..6, &[]),
        request(&[9, 3], guided, 6..9, &[]),
        request(&[1], guided, 9..11, &[(0, 3), (1, 5), (7, 150), (8, 0), (20, 77)]),
        request(&[], plain, 11..14, &[(3, 9)]),
    ]
}

fn check(package: &Package, request: &Request, drawn: &BTreeMap<u32, Drawn>) {
    for candidate in &request.candidates {
        let (tokens, likelihoods) = by_the_book(&mut transformer(package, 2), request, *candidate);
        let one = &drawn[&candidate.id];
        assert_eq!(one.tokens, tokens, "{candidate:?}");
        let statistics = one.statistics.unwrap();
        assert_eq!((statistics.log_likelihood, statistics.unconditional_log_likelihood), likelihoods, "{candidate:?}");
    }
}

#[test]
fn the_engine_draws_what_the_transformer_says_by_the_book() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), "tiny", 1, synthetic::Geometry::default());
    let rows = 7;
    let options = engine::Options { rows, step_rows: 24, ..engine::Options::default() };
    let caption = package.manifest().text.pad(&[]);
    let engine = Engine::start(transformer(&package, Pool::sequences(rows)), options, caption, |_| ()).unwrap();
    let requests = requests(&package);
    let mut events: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    for (request, events) in requests.iter().zip(&mut events) {
        check(&package, request, &read(events));
    }
    engine.stop();
}

#[test]
fn guesses_draw_the_same_in_fewer_steps() {
    let package = Package::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/scenes/package")).unwrap();
    let (text, cells) = (&package.manifest().text, package.manifest().grid.cells() as u32);
    let draw = |guess_rows: usize| {
        let options = engine::Options { rows: 8, guess_rows, ..engine::Options::default() };
        let model = transformer(&package, Pool::sequences(8));
        let engine = Engine::start(model, options, text.pad(&[]), |_| ()).unwrap();
        let drawn: Vec<_> = [(3.0, vec![]), (1.0, vec![]), (3.0, vec![(0, 7), (1, 9), (12, 3), (13, 4), (40, 100)])]
            .into_iter()
            .flat_map(|(guidance_scale, given)| {
                let request = Request {
                    // "a red car on the beach"
                    text: text.pad(&[256, 332, 418, 272, 262, 528]),
                    unconditional: (guidance_scale != 1.0).then(|| text.pad(&[])),
                    candidates: (0..2).map(|id| Candidate { id, seed: 7 + u64::from(id) }).collect(),
                    parameters: Parameters { temperature: 0.8, top_k: 64, top_p: 1.0, guidance_scale },
                    given,
                    chunk_size: 8,
                    deadline: None,
                };
                read(&mut engine.submit(request).unwrap()).into_values()
            })
            .collect();
        engine.stop();
        drawn
    };
    let plain = draw(0);
    for guess_rows in [4, 16, 64] {
        for (plain, guessed) in plain.iter().zip(draw(guess_rows)) {
            let [expected, found] = [plain, &guessed].map(|drawn| drawn.statistics.unwrap());
            assert_eq!(guessed.tokens, plain.tokens);
            let likelihoods = |s: Statistics| (s.log_likelihood, s.unconditional_log_likelihood);
            assert_eq!(likelihoods(found), likelihoods(expected));
            let fewer = guess_rows == 4 && expected.unconditional_log_likelihood.is_some();
            assert!(fewer || found.steps < expected.steps, "{} of {cells}", found.steps);
        }
    }
}

#[test]
fn guesses_draw_what_the_transformer_says_by_the_book() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), "tiny", 1, synthetic::Geometry::default());
    let options = engine::Options { rows: 7, guess_rows: 64, ..engine::Options::default() };
    let caption = package.manifest().text.pad(&[]);
    let engine = Engine::start(transformer(&package, Pool::sequences(7)), options, caption, |_| ()).unwrap();
    for request in requests(&package) {
        check(&package, &request, &read(&mut engine.submit(request.clone()).unwrap()));
    }
    engine.stop();
}

/// Σ ln p of the tokens that were not given, from the logits of all cells at once, by a softmax in f64.
fn teacher_forced(package: &Package, text: &[u32], tokens: &[u32], given: &[(u32, u32)]) -> f64 {
    let mut model = transformer(package, 1);
    model.begin(0, None).unwrap();
    let fed = text.iter().chain(&tokens[..tokens.len() - 1]);
    let row =
        |(position, &token): (u32, &u32)| Row { slot: 0, token, position, logits: position as usize + 1 >= text.len() };
    let rows: Vec<Row> = (0..).zip(fed).map(row).collect();
    let logits = model.step(&rows).unwrap();
    let cells = logits.chunks(package.manifest().codebook as usize).zip(tokens).enumerate();
    let drawn = cells.filter(|(cell, _)| given.iter().all(|(position, _)| *position as usize != *cell));
    let nats = drawn.map(|(_, (row, &token))| {
        let sum: f64 = row.iter().map(|&z| f64::from(z).exp()).sum();
        f64::from(row[token as usize]) - sum.ln()
    });
    nats.sum()
}

#[test]
fn likelihoods_are_those_of_the_transformer_given_the_whole_picture() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), "tiny", 1, synthetic::Geometry::default());
    let caption = package.manifest().text.pad(&[]);
    let rows = 7;
    let options = engine::Options { rows, ..engine::Options::default() };
    let engine = Engine::start(transformer(&package, Pool::sequences(rows)), options, caption, |_| ()).unwrap();
    for request in requests(&package) {
        let drawn = read(&mut engine.submit(request.clone()).unwrap());
        let Drawn { tokens, statistics } = &drawn[&0];
        let statistics = statistics.unwrap();
        let near = |found: f64, text: &[u32]| {
            let expected = teacher_forced(&package, text, tokens, &request.given);
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "expected {expected}, found {found}");
        };
        near(statistics.log_likelihood, &request.text);
        assert_eq!(statistics.unconditional_log_likelihood.is_some(), request.unconditional.is_some());
        if let (Some(found), Some(text)) = (statistics.unconditional_log_likelihood, &request.unconditional) {
            near(found, text);
        }
    }
    engine.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_loads_packages_and_serves_them_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let packages = [("first", 1), ("second", 2)]
        .map(|(name, seed)| package(dir.path(), name, seed, synthetic::Geometry::default()));
    let folders = packages.each_ref().map(|package| package.dir().to_str().unwrap().to_owned());
    let arguments = ["easel-sampler", "--package", &folders[0], "--package", &folders[1], "--slots", "4"];
    let config = Config::parse_from(arguments);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(easel_sampler::serve(listener, config, async { drop(stopped.await) }));

    let status = status(address, |status| status.ready).await;
    assert_eq!((status.slots_total, status.queue_capacity, &*status.device), (8, 128, "cpu"));
    let loaded: Vec<_> =
        packages.iter().map(|package| (package.manifest().name.clone(), package.digest().to_owned())).collect();
    let told: Vec<_> = status.packages.into_iter().map(|package| (package.name, package.digest)).collect();
    assert_eq!(told, loaded);

    let mut client = connect(address).await;
    for package in &packages {
        let name = package.manifest().name.clone();
        let message = SampleRequest {
            package: Some(PackageRef { name, digest: package.digest().to_owned() }),
            text_tokens: vec![5, 6, 7],
            candidates: vec![Message { id: 0, seed: 0 }],
            parameters: Some(SamplingParameters {
                temperature: Some(0.0),
                guidance_scale: Some(1.0),
                ..SamplingParameters::default()
            }),
            ..SampleRequest::default()
        };
        let drawn = receive(client.sample(message).await.unwrap().into_inner()).await.unwrap();
        check(package, &requests(package)[0], &drawn);
    }
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_package_that_cannot_be_loaded_ends_the_service_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let package = package(dir.path(), "damaged", 3, synthetic::Geometry::default());
    let graph = package.dir().join(&package.manifest().sampler.graph);
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let folder = package.dir().to_str().unwrap();
    for (options, part) in [(vec![], "sha256"), (vec!["--memory-limit-mib", "0"], "--memory-limit-mib")] {
        let config = Config::parse_from([vec!["easel-sampler", "--package", folder], options].concat());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let error = easel_sampler::serve(listener, config, std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}
