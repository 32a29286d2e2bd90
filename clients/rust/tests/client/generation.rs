//! Generate: events, the outcome, and how it may fail.

use std::time::Duration;

use easel_client::{Client, Code, Error, Event, Format, Generate, RankBy, Region};
use futures::StreamExt;

use crate::gateway::{self, BUSY, CUT, SILENCE};

#[tokio::test]
async fn events_are_typed_and_pictures_come_out_best_first() {
    let gateway = gateway::start().await;
    let generation = gateway.client.generate("a cat").await.unwrap();
    let events: Vec<Event> = generation.map(Result::unwrap).collect().await;
    assert!(matches!(&events[0], Event::Started(started) if started.seeds == [7, 8]));
    assert!(matches!(&events[1], Event::Progress(progress) if progress.tokens_total == 2));
    assert!(matches!(&events[2], Event::Picture(picture) if picture.image.format == Format::Jpeg));
    assert!(matches!(&events[5], Event::Finished(_)));

    let mut generation = gateway.client.generate("a cat").await.unwrap();
    // What was taken before is in the outcome as well.
    while !matches!(generation.event().await.unwrap(), Some(Event::Picture(_))) {}
    let outcome = generation.finish().await.unwrap();
    assert_eq!(outcome.pictures.iter().map(|picture| picture.seed).collect::<Vec<_>>(), [8, 7]);
    assert_eq!((outcome.ranking.by, outcome.ranking.entries.len()), (Some(RankBy::Clip), 2));
    assert_eq!(outcome.ranking.score(0), Some(0.2f32.into()));
    assert_eq!(outcome.pictures[0].unconditional_log_likelihood, Some(-2.0));
    assert_eq!(outcome.finished.tokens_drawn, 4);

    let folder = tempfile::tempdir().unwrap();
    let image = &outcome.pictures[0].image;
    let path = folder.path().join(format!("best.{}", image.extension()));
    image.save(&path).unwrap();
    assert_eq!(path.extension().unwrap(), "jpg");
    assert_eq!(std::fs::read(path).unwrap(), [1]);
    assert!(matches!(image.save(folder.path().join("none/best.jpg")), Err(Error::Write { .. })));
}

#[tokio::test]
async fn a_request_says_what_was_set_and_nothing_else() {
    let mut gateway = gateway::start().await;
    let request = Generate::prompt("a cat")
        .candidates(4)
        .keep(2)
        .rank_by(RankBy::CaptionGain)
        .seed(0)
        .temperature(0.0)
        .top_p(0.9)
        .negative_prompt("blurred")
        .image([1, 2], Region::RedrawFrom { row: 1, column: 2 })
        .previews(0);
    let client = gateway.client.clone().with_package("scenes");
    client.generate(request).await.unwrap();
    let (_, sent) = gateway.calls.recv().await.unwrap();
    assert_eq!((sent.package.as_str(), sent.candidates, sent.keep, sent.seed), ("scenes", 4, 2, Some(0)));
    assert_eq!(sent.rank_by(), easel_proto::v1::RankBy::CaptionGain);
    let parameters = sent.parameters.unwrap();
    assert_eq!((parameters.temperature, parameters.top_p), (Some(0.0), Some(0.9)));
    assert_eq!((parameters.top_k, parameters.guidance_scale), (None, None));
    assert_eq!((sent.previews, sent.format, sent.quality), (Some(0), 0, 0));
    assert_eq!((sent.image.unwrap().image, sent.negative_prompt.as_str()), (vec![1, 2], "blurred"));

    client.generate(Generate::text_tokens([3, 1]).package("other")).await.unwrap_err();
    let (metadata, sent) = gateway.calls.recv().await.unwrap();
    assert_eq!((sent.package.as_str(), sent.text_tokens), ("other", vec![3, 1]));
    assert!(metadata.get("grpc-timeout").is_none());
}

#[tokio::test]
async fn a_refusal_keeps_what_the_gateway_said() {
    let gateway = gateway::start().await;
    let error = gateway.client.generate("").await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    assert_eq!(error.violations()[0].field, "prompt");
    assert_eq!(error.violations()[0].description, "is empty");
    assert_eq!(error.to_string(), "prompt: is empty");

    let error = gateway.client.generate(BUSY).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::ResourceExhausted));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_outcome() {
    let gateway = gateway::start().await;
    let error = gateway.client.generate(CUT).await.unwrap().finish().await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error}");
}

#[tokio::test]
async fn a_gateway_that_falls_silent_is_given_up_at_the_deadline() {
    let mut gateway = gateway::start().await;
    let request = Generate::prompt(SILENCE).timeout(Duration::from_millis(300));
    let error = gateway.client.generate(request).await.unwrap().finish().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded));
    let (metadata, _) = gateway.calls.recv().await.unwrap();
    assert!(metadata.get("grpc-timeout").is_some());
    // A time-out that no clock can hold is as good as none.
    let request = Generate::prompt("a cat").timeout(Duration::MAX);
    gateway.client.generate(request).await.unwrap().finish().await.unwrap();
}

#[tokio::test]
async fn a_generation_that_is_dropped_is_cancelled_at_the_gateway() {
    let mut gateway = gateway::start().await;
    let mut generation = gateway.client.generate(SILENCE).await.unwrap();
    generation.event().await.unwrap();
    drop(generation);
    gateway.dropped.recv().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://{address}");
    let error = Client::connect(&url).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(error.to_string().contains(&url));

    let lazy = Client::lazy(&url).unwrap();
    let error = lazy.packages().await.unwrap_err();
    assert!(matches!(&error, Error::Refused(refusal) if refusal.is_transport()), "{error}");
    for url in ["", "no address", "localhost:50050", "https://localhost:50050"] {
        assert!(matches!(Client::lazy(url), Err(Error::Url { .. })), "{url}");
    }
}
