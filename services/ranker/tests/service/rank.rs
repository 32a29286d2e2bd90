//! Pictures against a caption.

use easel_proto::v1::{Picture, RankRequest};
use easel_ranker::Config;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Call, Service, candidate, field, header, picture, refer, text, within};

#[tokio::test]
async fn scores_are_cosines_and_come_as_they_are_ready() {
    let mut service = Service::free().await;
    let mut call = Call::start(&service.client).await;
    for (id, degrees) in [(7, 0), (3, 60), (7, 90)] {
        call.send(candidate(id, Some(picture(degrees)))).await;
        let (scored, score) = call.score().await;
        assert_eq!(scored, id);
        assert!((score - f32::from(degrees).to_radians().cos()).abs() < 1e-6, "{degrees}: {score}");
    }
    call.end().await;
    let texts = service.runs().into_iter().filter(|run| run.0 == "texts");
    assert_eq!(texts.count(), 1, "a caption is embedded once a call");
    service.end().await;
}

#[tokio::test]
async fn what_lies_where_counts_in_a_score() {
    let service = Service::free().await;
    let mut call = Call::of(&service.client, header(refer("placed", ""), Some(text(0)))).await;
    call.send(candidate(0, Some(picture(60)))).await;
    let (_, score) = call.score().await;
    assert!((score - (0.5 - 1.0) / 2.0).abs() < 1e-6, "{score}");
    call.end().await;
    service.end().await;
}

#[tokio::test]
async fn pictures_of_several_calls_share_a_run() {
    let mut service = Service::gated(Config::new(vec![])).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(Call::start(&service.client).await);
        assert_eq!(service.next_run().await.0, "texts");
    }
    calls[0].send(candidate(0, Some(picture(10)))).await;
    assert_eq!(service.next_run().await, ("images", vec![10]));
    // The thread is busy: these wait together.
    calls[1].send(candidate(1, Some(picture(11)))).await;
    calls[2].send(candidate(2, Some(picture(12)))).await;
    service.until(|status| status.queue_depth == 2).await;
    service.go.send(()).unwrap();
    let (_, mut rows) = service.next_run().await;
    rows.sort();
    assert_eq!(rows, [11, 12]);
    service.go.send(()).unwrap();
    for (id, mut call) in (0..).zip(calls) {
        assert_eq!(call.score().await.0, id);
        call.end().await;
    }
    service.end().await;
}

#[tokio::test]
async fn work_that_nobody_awaits_is_dropped() {
    let mut service = Service::gated(Config::new(vec![])).await;
    let (mut busy, gone) = (Call::start(&service.client).await, Call::start(&service.client).await);
    let mut captions = 0;
    while captions < 2 {
        captions += service.next_run().await.1.len();
    }
    busy.send(candidate(0, Some(picture(10)))).await;
    assert_eq!(service.next_run().await, ("images", vec![10]));
    for id in 0..5 {
        gone.send(candidate(id, Some(picture(20)))).await;
    }
    service.until(|status| status.queue_depth == 5).await;
    drop(gone);
    service.until(|status| status.queue_depth == 0 && status.slots_in_use == 1).await;
    service.go.send(()).unwrap();
    assert_eq!(busy.score().await.0, 0);
    busy.end().await;
    assert!(service.runs().is_empty());
    service.end().await;
}

#[tokio::test]
async fn a_call_has_few_pictures_in_work() {
    let service = Service::gated(Config { max_batch: 1, ..Config::new(vec![]) }).await;
    let pictures = (0..40).map(|id| candidate(id, Some(picture(10))));
    let messages: Vec<_> = [header(None, Some(text(0)))].into_iter().chain(pictures).collect();
    let mut scores = service.client.clone().rank(tokio_stream::iter(messages)).await.unwrap().into_inner();
    service.until(|status| status.queue_depth == 7).await;
    for _ in 0..40 {
        service.go.send(()).unwrap();
        assert!(within(scores.message()).await.unwrap().is_some());
        service.until(|status| status.queue_depth <= 7).await;
    }
    assert_eq!(within(scores.message()).await.unwrap(), None);
    service.end().await;
}

#[tokio::test]
async fn too_many_calls_are_told_when_to_come_back() {
    let service = Service::gated(Config { max_requests: 1, ..Config::new(vec![]) }).await;
    let first = Call::start(&service.client).await;
    service.until(|status| status.slots_in_use == 1).await;
    let refused = refusal(&service, vec![header(None, Some(text(0)))]).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    first.end().await;
    service.end().await;
}

async fn refusal(service: &Service, messages: Vec<RankRequest>) -> Status {
    let mut scores = service.client.clone().rank(tokio_stream::iter(messages)).await.unwrap().into_inner();
    loop {
        match within(scores.message()).await {
            Ok(score) => assert!(score.is_some(), "the call succeeded"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn bad_messages_are_refused_by_field_and_the_service_goes_on() {
    let service = Service::free().await;
    let good = || header(None, Some(text(0)));
    let ids = |ids: &[u32]| header(None, Some(easel_proto::v1::TextTokens { ids: ids.to_vec() }));
    let short = Picture { width: 2, height: 3, rgb8: vec![0; 12].into() };
    let cases = [
        (vec![], "header"),
        (vec![RankRequest { message: None }], "header"),
        (vec![candidate(0, Some(picture(0)))], "header"),
        (vec![header(None, None)], "header.caption"),
        (vec![ids(&[])], "header.caption.ids"),
        (vec![ids(&[1; 5])], "header.caption.ids"),
        (vec![ids(&[1, 1000])], "header.caption.ids[1]"),
        (vec![good(), good()], "header"),
        (vec![good(), RankRequest { message: None }], "message"),
        (vec![good(), candidate(0, None)], "candidate.picture"),
        (vec![good(), candidate(0, Some(short))], "candidate.picture.rgb8"),
        (vec![good(), candidate(0, Some(Picture::default()))], "candidate.picture.width"),
    ];
    for (messages, expected) in cases {
        assert_eq!(field(&refusal(&service, messages).await), expected);
    }
    for (package, code) in [
        (refer("cats", ""), Code::NotFound),
        (refer("shapes", "bb"), Code::FailedPrecondition),
        (refer("plain", ""), Code::FailedPrecondition),
    ] {
        assert_eq!(refusal(&service, vec![header(package, Some(text(0)))]).await.code(), code);
    }
    let mut call = Call::start(&service.client).await;
    call.send(candidate(1, Some(picture(0)))).await;
    assert_eq!(call.score().await, (1, 1.0));
    call.end().await;
    service.end().await;
}
