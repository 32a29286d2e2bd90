//! The same seed draws the same picture, whatever else the service is doing.
#![allow(clippy::unwrap_used)]

use easel_proto::v1::{GenerateRequest, SamplingParameters};
use easel_tests::{Options, Suite, draw, request};
use futures::future::join_all;

const PROMPT: &str = "a red car on the beach";
const SEED: u64 = 40;

/// With guidance, so that a candidate holds two rows, and every filter at work.
fn one(seed: u64) -> GenerateRequest {
    let parameters =
        SamplingParameters { temperature: Some(0.9), top_k: Some(20), top_p: Some(0.95), guidance_scale: Some(2.5) };
    GenerateRequest { parameters: Some(parameters), ..request(PROMPT, 1, seed) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_draws_the_same_picture_alone_among_others_under_load_and_after_a_restart() {
    let mut suite = Suite::start(Options { sampler: vec!["--slots".into(), "16".into()], ..Options::default() }).await;
    let url = suite.gateway.url();
    let alone = draw(&url, one(SEED)).await.unwrap().pictures[&SEED].clone();
    let other = draw(&url, one(SEED + 1)).await.unwrap().pictures[&(SEED + 1)].clone();
    assert_ne!(alone, other, "another seed draws another picture");

    // Among 15 others: more rows than there are slots, so that they are drawn in turns.
    let among = draw(&url, GenerateRequest { candidates: 16, ..one(SEED - 7) }).await.unwrap();
    assert_eq!(among.pictures.len(), 16);
    assert!(among.pictures[&SEED] == alone, "the same picture among 15 other candidates");
    assert!(among.pictures[&(SEED + 1)] == other);

    // While requests with other captions, parameters and batch sizes come and go.
    let load = (0..12).map(|i| {
        let plain = request("two green frogs", 1 + i % 3, 1000 + u64::from(i));
        draw(&url, plain)
    });
    let mine = (0..4).map(|_| draw(&url, one(SEED)));
    let (others, mine) = tokio::join!(join_all(load), join_all(mine));
    assert!(others.into_iter().all(|d| d.is_ok()));
    for drawing in mine {
        assert!(drawing.unwrap().pictures[&SEED] == alone, "the same picture under load");
    }

    for process in suite.processes() {
        process.kill();
        process.restart();
    }
    for process in suite.processes() {
        process.ready().await;
    }
    let again = draw(&url, one(SEED)).await.unwrap();
    assert!(again.pictures[&SEED] == alone, "the same picture after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn greedy_is_the_same_for_every_seed() {
    let suite = Suite::start(Options::default()).await;
    let greedy = |seed| {
        let parameters = SamplingParameters { temperature: Some(0.0), ..SamplingParameters::default() };
        GenerateRequest { parameters: Some(parameters), ..request(PROMPT, 1, seed) }
    };
    let first = draw(&suite.gateway.url(), greedy(1)).await.unwrap();
    let second = draw(&suite.gateway.url(), greedy(2)).await.unwrap();
    assert!(first.pictures[&1] == second.pictures[&2]);
}
