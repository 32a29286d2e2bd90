//! Slow readers, callers that go away, too many calls, models that fail.

use easel_decoder::Config;
use easel_decoder::model::Shape;
use easel_package::{Grid, Size};
use easel_proto::v1::DecodeRequest;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{Call, Client, Event, SHAPE, Service, chunk, connect, header, refusal, within};

/// Pictures of 256 × 256.
const LARGE: Shape =
    Shape { grid: Grid { rows: 2, columns: 2 }, codebook: 100, image: Size { width: 256, height: 256 }, encoder: None };

fn whole_call(candidates: u32, cells: usize) -> Vec<DecodeRequest> {
    let ids: Vec<u32> = (0..candidates).collect();
    let chunks = ids.iter().map(|id| chunk(*id, 0, &vec![1; cells]));
    [header(&ids, 0)].into_iter().chain(chunks).collect()
}

#[tokio::test]
async fn a_slow_reader_slows_itself_alone() {
    const CANDIDATES: u32 = 96;
    let mut service = Service::start(LARGE, Config::new(vec![]), false).await;
    // A connection of its own, for windows of its own.
    let mut slow = Client::new(connect(service.address));
    let messages = tokio_stream::iter(whole_call(CANDIDATES, 4));
    let mut unread = within(slow.decode(messages)).await.unwrap().into_inner();
    service.until(|status| status.slots_in_use == 1).await;

    let quick = tokio_stream::iter(whole_call(CANDIDATES, 4));
    let mut quick = within(service.client.clone().decode(quick)).await.unwrap().into_inner();
    for _ in 0..CANDIDATES {
        assert!(within(quick.message()).await.unwrap().is_some());
    }
    assert!(within(quick.message()).await.unwrap().is_none());

    // 18 MiB are for the slow reader; no more was drawn than the transport's windows and the call's own hold.
    let rows = service.rows().len();
    assert!(rows < CANDIDATES as usize + 40, "{rows} rows");
    let mut pictures = 0;
    while within(unread.message()).await.unwrap().is_some() {
        pictures += 1;
    }
    assert_eq!(pictures, CANDIDATES);
    service.end().await;
}

#[tokio::test]
async fn work_that_nobody_awaits_is_dropped() {
    let mut service = Service::gated(Config::new(vec![])).await;
    let mut busy = Call::start(&service.client).await;
    busy.send(header(&[0], 0)).await;
    busy.send(chunk(0, 0, &[1; 6])).await;
    assert_eq!(service.next_run().await, [[1; 6]]);
    let gone = Call::start(&service.client).await;
    gone.send(header(&[0, 1], 1)).await;
    gone.send(chunk(0, 0, &[2; 6])).await;
    gone.send(chunk(1, 0, &[2; 3])).await;
    service.until(|status| status.queue_depth == 2 && status.slots_in_use == 2).await;
    drop(gone);
    service.until(|status| status.queue_depth == 0 && status.slots_in_use == 1).await;
    service.go.send(()).unwrap();
    assert_eq!(busy.event().await, Event::Finished(0, vec![1; 6]));
    service.end().await;
}

#[tokio::test]
async fn too_many_calls_are_told_when_to_come_back() {
    let service = Service::gated(Config { max_requests: 1, ..Config::new(vec![]) }).await;
    let mut first = Call::start(&service.client).await;
    first.send(header(&[0], 0)).await;
    service.until(|status| status.slots_in_use == 1).await;
    let refused = refusal(&service.client, vec![header(&[0], 0)]).await;
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    first.send(chunk(0, 0, &[1; 6])).await;
    service.go.send(()).unwrap();
    assert_eq!(first.event().await, Event::Finished(0, vec![1; 6]));
    assert_eq!(first.event().await, Event::End);
    service.until(|status| status.slots_in_use == 0).await;
    service.end().await;
}

#[tokio::test]
async fn a_model_that_panics_fails_its_calls_and_unreadies_the_service() {
    // The painter insists that cells divide the picture.
    let shape = Shape { image: Size { width: 6, height: 1 }, ..SHAPE };
    let service = Service::start(shape, Config::new(vec![]), false).await;
    let failed = refusal(&service.client, whole_call(1, 6)).await;
    assert_eq!((failed.code(), failed.message()), (Code::Internal, "internal error"));
    service.until(|status| !status.ready && status.detail == "the decoder's model panicked").await;
    assert_eq!(refusal(&service.client, whole_call(1, 6)).await.code(), Code::Unavailable);
    service.end().await;
}
