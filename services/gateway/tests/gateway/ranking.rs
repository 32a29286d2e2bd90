//! What orders the candidates, and which of them are kept.

use easel_proto::v1::generate_response::{Event, Ranking};
use easel_proto::v1::{Cell, GenerateRequest, ImagePrompt, RankBy, SamplingParameters, image_prompt::Region};

use crate::stages::{CELLS, log_likelihood, unconditional_log_likelihood};
use crate::suite::{Suite, request};

/// Six candidates, with guidance.
fn ranked_by(order: RankBy) -> GenerateRequest {
    let parameters = SamplingParameters { guidance_scale: Some(2.0), ..SamplingParameters::default() };
    GenerateRequest { candidates: 6, parameters: Some(parameters), rank_by: order.into(), ..request() }
}

/// The candidates in the order in which their pictures came, and the ranking.
fn outcome(events: Vec<Event>) -> (Vec<u32>, Ranking) {
    let (mut pictures, mut ranking) = (Vec::new(), None);
    for event in events {
        match event {
            Event::Picture(picture) => pictures.push(picture.candidate),
            Event::Ranking(told) => ranking = Some(told),
            _ => {}
        }
    }
    (pictures, ranking.expect("a ranking"))
}

fn order(ranking: &Ranking) -> Vec<u32> {
    ranking.entries.iter().map(|entry| entry.candidate).collect()
}

#[tokio::test]
async fn each_order_is_its_own_and_keep_follows_it() {
    let suite = Suite::start().await;
    for (by, expected) in [
        (RankBy::Unspecified, [5, 4, 3, 2, 1, 0]),
        (RankBy::Clip, [5, 4, 3, 2, 1, 0]),
        (RankBy::Likelihood, [0, 1, 2, 3, 4, 5]),
        (RankBy::CaptionGain, [2, 1, 0, 4, 3, 5]),
        (RankBy::Both, [2, 4, 1, 3, 5, 0]),
    ] {
        let (_, ranking) = outcome(suite.generate(ranked_by(by)).await.unwrap());
        assert_eq!(order(&ranking), expected, "{by:?}");
        let told = if by == RankBy::Unspecified { RankBy::Clip } else { by };
        assert_eq!(ranking.rank_by(), told);
        for entry in &ranking.entries {
            let (conditional, unconditional) =
                (log_likelihood(entry.candidate), unconditional_log_likelihood(entry.candidate));
            assert_eq!((entry.log_likelihood, entry.unconditional_log_likelihood), (conditional, Some(unconditional)));
            let expected = match told {
                RankBy::Clip => f64::from(entry.clip_score.unwrap()),
                RankBy::Likelihood => conditional / f64::from(CELLS),
                RankBy::CaptionGain => (conditional - unconditional) / f64::from(CELLS),
                _ => continue,
            };
            assert_eq!(entry.score, expected);
        }
        let (kept, ranking) = outcome(suite.generate(GenerateRequest { keep: 2, ..ranked_by(by) }).await.unwrap());
        assert_eq!((kept, order(&ranking).as_slice()), (expected[..2].to_vec(), &expected[..]), "{by:?}");
    }
}

#[tokio::test]
async fn a_package_without_clip_ranks_by_likelihood_when_asked() {
    let suite = Suite::start().await;
    suite.change(|package| package.ranking = false);
    for (by, expected) in [(RankBy::Likelihood, [0, 1]), (RankBy::CaptionGain, [2, 1])] {
        let (kept, ranking) = outcome(suite.generate(GenerateRequest { keep: 2, ..ranked_by(by) }).await.unwrap());
        assert_eq!(kept, expected);
        assert!(ranking.entries.len() == 6 && ranking.entries.iter().all(|entry| entry.clip_score.is_none()));
    }
    let (_, ranking) = outcome(suite.generate(ranked_by(RankBy::Unspecified)).await.unwrap());
    assert_eq!((ranking.entries, ranking.rank_by), (Vec::new(), 0));
    assert!(suite.script.seen().ranking.is_empty());
}

#[tokio::test]
async fn tokens_without_a_prompt_rank_by_likelihood_when_asked() {
    let suite = Suite::start().await;
    let tokens = GenerateRequest { prompt: String::new(), text_tokens: vec![3, 4], ..ranked_by(RankBy::Likelihood) };
    let (_, ranking) = outcome(suite.generate(tokens).await.unwrap());
    assert_eq!(order(&ranking), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn scores_are_means_over_the_tokens_that_were_drawn() {
    let suite = Suite::start().await;
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(8, 8).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let region = Some(Region::RedrawFrom(Cell { row: 2, column: 2 }));
    let image = Some(ImagePrompt { image: png.into_inner(), region });
    let asked = GenerateRequest { image, ..ranked_by(RankBy::Likelihood) };
    let (_, ranking) = outcome(suite.generate(asked).await.unwrap());
    assert_eq!(ranking.entries[0].score, log_likelihood(0) / 4.0);
}

#[tokio::test]
async fn without_guidance_both_are_clip_and_the_likelihood() {
    let suite = Suite::start().await;
    let asked = GenerateRequest { parameters: None, ..ranked_by(RankBy::Both) };
    let (_, ranking) = outcome(suite.generate(asked).await.unwrap());
    // The likelihood falls as the score rises, evenly.
    assert!(ranking.entries.iter().all(|entry| entry.score.abs() < 1e-5), "{ranking:?}");
    assert!(ranking.entries.iter().all(|entry| entry.unconditional_log_likelihood.is_none()));
}
