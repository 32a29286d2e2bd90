//! A deadline holds until the end of the response, and frees the work.

use std::convert::Infallible;
use std::time::Duration;

use easel_proto::FILE_DESCRIPTOR_SET;
use easel_server::cancel::CancellationToken;
use easel_server::drain::Drain;
use easel_server::layer::RequestLayer;
use easel_server::{Config, Deadline, call};
use tonic::{Code, Status};
use tower::{Layer, ServiceExt};

use crate::support::{Sampler, Script, request, routes, start, within};

#[tokio::test]
async fn a_stream_ends_at_its_deadline() -> Result<(), Status> {
    let running = start(Script::Hang, Config::default()).await;
    let mut request = request();
    request.set_timeout(Duration::from_millis(300));
    let mut events = running.client().sample(request).await?.into_inner();
    assert!(within(events.message()).await?.is_some());
    let end = within(events.message()).await;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::DeadlineExceeded));
    within(running.dropped.cancelled()).await;
    running.end().await;
    Ok(())
}

/// Without a client: tonic's would answer its own CANCELLED at the same moment.
#[tokio::test(start_paused = true)]
async fn a_head_is_late() -> Result<(), Box<dyn std::error::Error>> {
    let dropped = CancellationToken::new();
    let entered = CancellationToken::new();
    let sampler = Sampler { script: Script::HangBeforeHead, entered, dropped: dropped.clone() };
    let layer = RequestLayer::new("sampler", FILE_DESCRIPTOR_SET, Drain::new())?;
    let request = http::Request::post("/easel.v1.SamplerService/Sample")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "5S")
        // One message, empty, not compressed.
        .body(tonic::body::Body::new(axum::body::Body::from(&[0_u8; 5][..])))?;
    let begun = tokio::time::Instant::now();
    let response: Result<_, Infallible> = layer.layer(routes(sampler)).oneshot(request).await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    let status = response.map(|response| Status::from_header_map(response.headers()))?;
    assert_eq!(status.map(|status| status.code()), Some(Code::DeadlineExceeded));
    assert!(dropped.is_cancelled());
    Ok(())
}

#[tokio::test]
async fn a_client_learns_the_truth_about_a_late_head() {
    let running = start(Script::HangBeforeHead, Config::default()).await;
    let deadline = Some(Deadline::after(Duration::from_millis(100)));
    let message = request().into_inner();
    let end = within(running.client().sample(call::outgoing(message, deadline))).await;
    let status = call::settle(end.expect_err("it is late"), deadline);
    assert_eq!(status.code(), Code::DeadlineExceeded);
    within(running.dropped.cancelled()).await;
    running.end().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_the_work() -> Result<(), Status> {
    let running = start(Script::Hang, Config::default()).await;
    let mut events = running.client().sample(request()).await?.into_inner();
    assert!(within(events.message()).await?.is_some());
    assert!(!running.dropped.is_cancelled());
    drop(events);
    within(running.dropped.cancelled()).await;
    running.end().await;
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_is_late_all_the_same() -> Result<(), Status> {
    let running = start(Script::Flood, Config::default()).await;
    let mut request = request();
    request.set_timeout(Duration::from_secs(2));
    let events = running.client().sample(request).await?.into_inner();
    within(running.dropped.cancelled()).await;
    drop(events);
    running.end().await;
    Ok(())
}
