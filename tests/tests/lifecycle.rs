//! Services come and go: SIGTERM lets work finish, SIGKILL of a stage is told by name, and the suite serves again when the stage is back.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use easel_proto::v1::{GetPackageRequest, generate_response::Event};
use easel_tests::{Options, Suite, client, collect, draw, request};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_service_finishes_its_work_refuses_more_and_ends_well() {
    let mut suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    let mut gateway = client(&url);
    let mut running = gateway.generate(request("a red car", 16, 1)).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().event, Some(Event::Started(_))) {}

    suite.gateway.terminate();
    let refused = loop {
        match gateway.get_package(GetPackageRequest::default()).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let drawing = collect(running).await.unwrap();
    assert_eq!(drawing.pictures.len(), 16);
    assert_eq!(suite.gateway.wait().code(), Some(0));

    for stage in [&mut suite.tokenizer, &mut suite.sampler, &mut suite.decoder, &mut suite.ranker] {
        stage.terminate();
        assert_eq!(stage.wait().code(), Some(0), "{}", stage.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_stage_is_named_and_the_suite_serves_again_when_it_is_back() {
    let mut suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    for index in 0..4 {
        let stage = &mut suite.processes()[index];
        let name = stage.name();
        stage.kill();
        let status = tokio::time::timeout(Duration::from_secs(10), draw(&url, request("a red car", 1, 1)))
            .await
            .expect("a dead stage does not hang")
            .unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{name}: {status}");
        assert!(status.message().contains(name), "{name}: {status}");

        stage.restart();
        stage.ready().await;
        draw(&url, request("a red car", 1, 1)).await.unwrap_or_else(|e| panic!("after {name} came back: {e}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_dies_in_the_middle_is_named() {
    let mut suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    let mut running = client(&url).generate(request("a red car", 64, 1)).await.unwrap().into_inner();
    while !matches!(running.message().await.unwrap().unwrap().event, Some(Event::Progress(_))) {}
    suite.sampler.kill();
    let status = collect(running).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("sampler"), "{status}");
}
