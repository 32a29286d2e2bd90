//! How the work flows: chunk by chunk, and no faster than the slowest wants.

use std::time::Duration;

use easel_proto::v1::generate_response::Event;
use easel_proto::v1::{GenerateRequest, ImageFormat};

use crate::suite::{Suite, collect, request};

#[tokio::test]
async fn a_chunk_reaches_the_decoder_and_the_caller_before_the_next_is_drawn() {
    let suite = Suite::start().await;
    suite.script.hold_chunks();
    let asked = GenerateRequest { candidates: 1, previews: Some(3), ..request() };
    let mut stream = suite.client().await.generate(asked).await.unwrap().into_inner();
    for row in 1..=4 {
        suite.script.chunks.add_permits(1);
        suite.script.wait(|seen| seen.chunks.len() == row).await;
        let (mut progress, mut shown) = (0, 0);
        while progress < 4 * row || shown < 4 * row {
            match stream.message().await.unwrap().unwrap().event.unwrap() {
                Event::Progress(event) => progress = event.tokens_done as usize,
                Event::Preview(event) => shown = event.tokens_done as usize,
                Event::Picture(_) => shown = 16,
                _ => {}
            }
        }
    }
    assert!(matches!(collect(stream).await.unwrap().last(), Some(Event::Finished(_))));
}

/// 48 pictures that need more room than there is between the stages and the caller.
fn many() -> GenerateRequest {
    GenerateRequest { candidates: 48, format: ImageFormat::Raw.into(), ..request() }
}

#[tokio::test]
async fn callers_that_do_not_read_hold_nobody_else_up() {
    const SLOW: usize = 12;
    let suite = Suite::start().await;
    suite.change(|package| (package.image_width, package.image_height) = (256, 256));
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = suite.client().await.generate(many()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        slow.push(stream);
    }
    // Nor the sampler: its slots are free although nobody takes the pictures.
    suite.script.wait(|seen| seen.sampled.len() == SLOW && seen.open.get("sampler") == Some(&0)).await;
    for _ in 0..3 {
        let others = suite.generate(request());
        let events = tokio::time::timeout(Duration::from_secs(20), others).await.unwrap().unwrap();
        assert!(matches!(events.last(), Some(Event::Finished(_))));
    }
    for stream in slow.drain(..2) {
        let events = collect(stream).await.unwrap();
        let pictures = events.iter().filter(|event| matches!(event, Event::Picture(_))).count();
        assert_eq!(pictures, 48, "no picture is lost");
    }
}

#[tokio::test]
async fn a_decoder_that_is_slow_is_waited_for() {
    let suite = Suite::start().await;
    suite.script.hold_decodes();
    let mut stream = suite.client().await.generate(request()).await.unwrap().into_inner();
    while !matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Progress(_))) {}
    suite.script.decodes.add_permits(1 << 10);
    let events = collect(stream).await.unwrap();
    assert!(matches!(events.last(), Some(Event::Finished(_))));
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_mix() {
    let suite = Suite::start().await;
    let asked = (0..16).map(|seed| suite.generate(GenerateRequest { seed: Some(seed), ..request() }));
    for (seed, events) in (0..).zip(futures::future::join_all(asked).await) {
        for event in events.unwrap() {
            if let Event::Picture(picture) = event {
                let own = seed + u64::from(picture.candidate);
                assert_eq!(picture.image_tokens[0], crate::stages::token(own, 0));
            }
        }
    }
}
