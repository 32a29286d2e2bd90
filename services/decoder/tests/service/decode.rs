//! Chunks become previews and pictures; what is wrong is refused by field.

use easel_decoder::Config;
use easel_proto::v1::DecodeRequest;
use tonic::Code;

use crate::support::{Call, Event, Service, chunk, field, header, header_of, refusal};

#[tokio::test]
async fn previews_grow_and_the_picture_follows() {
    let mut service = Service::free().await;
    let mut call = Call::start(&service.client).await;
    call.send(header(&[7], 2)).await;
    call.send(chunk(7, 0, &[1])).await;
    call.send(chunk(7, 1, &[2])).await;
    assert_eq!(call.event().await, Event::Preview(7, 2, vec![1, 2, 128, 128, 128, 128]));
    call.send(chunk(7, 2, &[3, 4, 5])).await;
    assert_eq!(call.event().await, Event::Preview(7, 5, vec![1, 2, 3, 4, 5, 128]));
    call.send(chunk(7, 5, &[6])).await;
    assert_eq!(call.event().await, Event::Finished(7, vec![1, 2, 3, 4, 5, 6]));
    // The caller has not closed its side.
    assert_eq!(call.event().await, Event::End);
    assert_eq!(service.rows(), [[1, 2, 2, 1, 2, 2], [1, 2, 3, 4, 5, 3], [1, 2, 3, 4, 5, 6]]);
    service.end().await;
}

#[tokio::test]
async fn candidates_interleave() {
    let service = Service::free().await;
    let mut call = Call::start(&service.client).await;
    call.send(header(&[1, 0], 0)).await;
    call.send(chunk(0, 0, &[1, 1, 1])).await;
    call.send(chunk(1, 0, &[2, 2, 2, 2, 2, 2])).await;
    assert_eq!(call.event().await, Event::Finished(1, vec![2; 6]));
    call.send(chunk(0, 3, &[1, 1, 1])).await;
    assert_eq!(call.event().await, Event::Finished(0, vec![1; 6]));
    assert_eq!(call.event().await, Event::End);
    service.end().await;
}

#[tokio::test]
async fn pictures_of_several_calls_share_a_run() {
    let mut service = Service::gated(Config::new(vec![])).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(Call::start(&service.client).await);
    }
    let whole = |i: u32| chunk(0, 0, &[i; 6]);
    for call in &calls {
        call.send(header(&[0], 0)).await;
    }
    service.until(|status| status.slots_in_use == 3).await;
    calls[0].send(whole(0)).await;
    assert_eq!(service.next_run().await, [[0; 6]]);
    // The thread is busy: these two wait together.
    calls[1].send(whole(1)).await;
    calls[2].send(whole(2)).await;
    service.until(|status| status.queue_depth == 2).await;
    service.go.send(()).unwrap();
    let mut run = service.next_run().await;
    run.sort();
    assert_eq!(run, [[1; 6], [2; 6]]);
    service.go.send(()).unwrap();
    for (i, call) in calls.iter_mut().enumerate() {
        assert_eq!(call.event().await, Event::Finished(0, vec![i as u8; 6]));
        assert_eq!(call.event().await, Event::End);
    }
    service.until(|status| status.slots_in_use == 0).await;
    service.end().await;
}

#[tokio::test]
async fn a_busy_model_makes_every_preview_in_order_and_pictures_before_them() {
    let mut service = Service::gated(Config { max_batch: 2, ..Config::new(vec![]) }).await;
    let mut call = Call::start(&service.client).await;
    call.send(header(&[0, 1], 1)).await;
    call.send(chunk(0, 0, &[1])).await;
    assert_eq!(service.next_run().await, [[1; 6]]);
    // While that runs: two more previews of 0; a preview of 1 and then all of it; all of 0.
    for (candidate, start, tokens) in
        [(0, 1, &[1][..]), (0, 2, &[1]), (1, 0, &[2, 2]), (1, 2, &[2; 4]), (0, 3, &[1; 3])]
    {
        call.send(chunk(candidate, start, tokens)).await;
    }
    service.until(|status| status.queue_depth == 5).await;
    service.go.send(()).unwrap();
    assert_eq!(call.event().await, Event::Preview(0, 1, vec![1, 128, 128, 128, 128, 128]));
    assert_eq!(service.next_run().await, [[2; 6], [1; 6]], "both pictures");
    service.go.send(()).unwrap();
    assert_eq!(service.next_run().await, [[1; 6], [1; 6]], "both previews of 0");
    service.go.send(()).unwrap();
    assert_eq!(call.event().await, Event::Preview(0, 2, vec![1, 1, 128, 128, 128, 128]));
    assert_eq!(call.event().await, Event::Preview(0, 3, vec![1, 1, 1, 128, 128, 128]));
    assert_eq!(call.event().await, Event::Finished(0, vec![1; 6]));
    assert_eq!(service.next_run().await, [[2; 6]], "the preview of 1");
    service.go.send(()).unwrap();
    assert_eq!(call.event().await, Event::Preview(1, 2, vec![2, 2, 128, 128, 128, 128]));
    assert_eq!(call.event().await, Event::Finished(1, vec![2; 6]));
    assert_eq!(call.event().await, Event::End);
    service.end().await;
}

#[tokio::test]
async fn bad_messages_are_refused_by_field_and_the_service_goes_on() {
    let service = Service::free().await;
    let client = &service.client;
    let cases = [
        (vec![], "header"),
        (vec![DecodeRequest { message: None }], "header"),
        (vec![chunk(0, 0, &[1])], "header"),
        (vec![header(&[], 0)], "header.candidates"),
        (vec![header(&[1, 1], 0)], "header.candidates"),
        (vec![header(&(0..5000).collect::<Vec<_>>(), 0)], "header.candidates"),
        (vec![header(&[0], 0), header(&[0], 0)], "header"),
        (vec![header(&[0], 0), DecodeRequest { message: None }], "message"),
        (vec![header(&[0], 0), chunk(1, 0, &[1])], "chunk.candidate"),
        (vec![header(&[0], 0), chunk(0, 1, &[1])], "chunk.start"),
        (vec![header(&[0], 0), chunk(0, 0, &[1]), chunk(0, 2, &[1])], "chunk.start"),
        (vec![header(&[0], 0), chunk(0, 0, &[1]), chunk(0, 0, &[1])], "chunk.start"),
        (vec![header(&[0], 0), chunk(0, 0, &[1; 7])], "chunk.tokens"),
        (vec![header(&[0], 0), chunk(0, 0, &[])], "chunk.tokens"),
        (vec![header(&[0], 0), chunk(0, 0, &[1, 100])], "chunk.tokens[1]"),
        (vec![header(&[0, 1], 0), chunk(0, 0, &[1; 6]), chunk(0, 6, &[1])], "chunk.tokens"),
        (vec![header(&[0], 0)], "chunk"),
    ];
    for (messages, expected) in cases {
        assert_eq!(field(&refusal(client, messages).await), expected);
    }
    let early = refusal(client, vec![header(&[2, 3], 0), chunk(2, 0, &[1; 6]), chunk(3, 0, &[1; 4])]).await;
    assert_eq!(early.message(), "chunk: stream ended with candidate 3 at 4 of 6 tokens");
    assert_eq!(refusal(client, vec![header_of("cats", "")]).await.code(), Code::NotFound);
    assert_eq!(refusal(client, vec![header_of("shapes", "bb")]).await.code(), Code::FailedPrecondition);

    let mut call = Call::start(client).await;
    call.send(header(&[0], 0)).await;
    call.send(chunk(0, 0, &[9; 6])).await;
    assert_eq!(call.event().await, Event::Finished(0, vec![9; 6]));
    service.until(|status| status.ready && status.slots_in_use == 0).await;
    service.end().await;
}
