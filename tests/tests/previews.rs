//! Pictures appear as they are drawn: a caller that asks for nothing special sees at least three previews of each, however many there are.
#![allow(clippy::unwrap_used)]

use easel_proto::v1::{GenerateRequest, generate_response::Event};
use easel_tests::{Options, Suite, draw, request};

const CANDIDATES: u32 = 16;

/// Pixels that are flat grey: not drawn yet.
fn grey(picture: &[u8]) -> usize {
    let pixels = image::load_from_memory(picture).unwrap().into_rgb8();
    pixels.pixels().filter(|pixel| pixel.0 == [128; 3]).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_candidate_of_many_is_seen_to_grow_at_least_three_times_even_under_load() {
    let suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    let watched = |seed| GenerateRequest { previews: None, ..request("a red car", CANDIDATES, seed) };
    let drawings = futures::future::join_all((0..3).map(|seed| draw(&url, watched(seed)))).await;
    for drawing in drawings {
        let mut seen = vec![Vec::new(); CANDIDATES as usize];
        for event in drawing.unwrap().events {
            if let Event::Preview(preview) = event {
                let undrawn = grey(&preview.image.unwrap().data);
                seen[preview.candidate as usize].push((preview.tokens_done, undrawn));
            }
        }
        for (candidate, previews) in seen.iter().enumerate() {
            assert!(previews.len() >= 3, "candidate {candidate}: {previews:?}");
            let grows = |pair: &[(u32, usize)]| pair[0].0 < pair[1].0 && pair[0].1 > pair[1].1;
            assert!(previews.windows(2).all(grows), "candidate {candidate}: {previews:?}");
        }
    }
}
