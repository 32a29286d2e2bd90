//! Stages that are dead, die, or say no.

use std::time::{Duration, Instant};

use easel_proto::stage;
use easel_proto::v1::generate_response::Event;
use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_proto::v1::{
    GatewayServiceEmbedRequest, GenerateRequest, GetStatusRequest, ImagePrompt, ListStagesRequest, image_prompt::Region,
};
use easel_server::status;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::suite::{STAGES, Suite, field, nobody, request};

fn retry_after(status: &Status) -> Option<Duration> {
    status.get_error_details().retry_info()?.retry_delay
}

#[tokio::test]
async fn a_dead_stage_is_named_soon_and_served_again_when_it_is_back() {
    let mut suite = Suite::start().await;
    suite.generate(request()).await.unwrap();
    for name in STAGES {
        suite.stage(name).kill();
        let began = Instant::now();
        let status = suite.failure(request()).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{name} took {:?}", began.elapsed());
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().starts_with(&format!("{name} is unavailable")), "{status:?}");
        assert!(retry_after(&status).is_some());
        suite.revive(name);
        suite.generate(request()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stage_that_dies_midway_is_named() {
    for name in [stage::SAMPLER, stage::DECODER, stage::RANKER] {
        let mut suite = Suite::start().await;
        suite.script.hold_chunks();
        suite.script.chunks.add_permits(2);
        let mut stream = suite.client().await.generate(request()).await.unwrap().into_inner();
        suite.script.wait(|seen| seen.chunks.len() == 2 && seen.open.get("ranker") == Some(&1)).await;
        suite.stage(name).kill();
        let status = loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{name} died and the request ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().starts_with(&format!("{name} is unavailable")), "{status:?}");
    }
}

#[tokio::test]
async fn one_of_several_addresses_may_be_dead() {
    let live = Suite::start().await;
    let both = |index: usize| format!("http://{},http://{}", nobody(), live.stages[index].at);
    let addresses: Vec<String> = (0..4).map(both).collect();
    let options: Vec<String> = STAGES.iter().map(|stage| format!("--{stage}")).collect();
    let arguments: Vec<&str> = options.iter().zip(&addresses).flat_map(|(o, a)| [o.as_str(), a.as_str()]).collect();
    let suite = Suite::with(&arguments).await;
    for _ in 0..6 {
        suite.generate(request()).await.unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_refuses_before_it_drew_is_passed_over() {
    let mut suite = Suite::start().await;
    suite.script.fail("sample", Some(status::unavailable("draining", Duration::from_secs(3))));
    let status = suite.failure(request()).await;
    assert_eq!(status.message(), "sampler is unavailable: draining");
    assert_eq!(retry_after(&status), Some(Duration::from_secs(3)));
    suite.script.wait(|seen| seen.served.iter().filter(|call| *call == "sample@first").count() == 3).await;
    suite.script.fail("sample", None);
    suite.stage(stage::RANKER).kill();
    suite.revive(stage::RANKER);
    suite.generate(request()).await.unwrap();
}

#[tokio::test]
async fn what_a_stage_says_is_passed_on() {
    let suite = Suite::start().await;
    let cases = [
        ("sample", "sampler", status::exhausted("the queue is full", Duration::from_secs(9))),
        ("chunk", "sampler", Status::aborted("stalled")),
        ("tokenize", "tokenizer", status::precondition("package", "d2", "another digest")),
        ("decode", "decoder", Status::internal("internal error")),
        ("decode_chunk", "decoder", status::invalid("chunk.start", "out of order")),
        ("score", "ranker", Status::internal("internal error")),
    ];
    for (method, stage, failure) in cases {
        suite.script.fail(method, Some(failure.clone()));
        let told = suite.failure(request()).await;
        assert_eq!(told.code(), failure.code(), "{told:?}");
        assert_eq!(told.message(), format!("{stage}: {}", failure.message()));
        assert_eq!(retry_after(&told), retry_after(&failure));
        suite.script.fail(method, None);
    }
    suite.script.fail("rank", Some(status::not_found("package", "shapes")));
    assert_eq!(field(&suite.failure(request()).await), "package");
}

#[tokio::test]
async fn a_stage_with_another_package_makes_the_gateway_ask_again() {
    let suite = Suite::start().await;
    suite.generate(request()).await.unwrap();
    suite.change(|package| package.digest = "d2".to_owned());
    suite.script.fail("sample", Some(status::precondition("package", "d1", "another digest")));
    assert_eq!(suite.failure(request()).await.code(), Code::FailedPrecondition);
    suite.script.fail("sample", None);
    suite.generate(request()).await.unwrap();
    let seen = suite.script.seen();
    assert_eq!(seen.sampled.last().unwrap().package.as_ref().unwrap().digest, "d2");
}

#[tokio::test]
async fn the_time_that_is_left_goes_to_every_stage() {
    let suite = Suite::start().await;
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(4, 4).write_to(&mut png, image::ImageFormat::Png).unwrap();
    let image = Some(ImagePrompt { image: png.into_inner(), region: Some(Region::KeepRows(1)) });
    let mut asked = Request::new(GenerateRequest { image, ..request() });
    asked.set_timeout(Duration::from_secs(50));
    let stream = suite.client().await.generate(asked).await.unwrap().into_inner();
    crate::suite::collect(stream).await.unwrap();
    let left = suite.script.seen().time_left;
    for method in ["describe_packages", "tokenize", "encode", "sample", "decode", "rank"] {
        let left = left[method];
        assert!(left < Duration::from_secs(50) && left > Duration::from_secs(20), "{method} has {left:?}");
    }
    assert!(left["decode"] < left["describe_packages"], "the time shrinks");
}

#[tokio::test]
async fn a_caller_without_a_deadline_gets_the_default() {
    let suite = Suite::with(&["--default-timeout-seconds", "1"]).await;
    suite.script.hold_chunks();
    suite.script.chunks.add_permits(1);
    let status = suite.failure(request()).await;
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert_eq!(status.message(), "the deadline passed in the sampler");
    suite.script.wait(|seen| seen.open.values().all(|&open| open == 0)).await;
}

#[tokio::test]
async fn a_caller_hears_before_its_deadline_which_stage_was_late() {
    let suite = Suite::start().await;
    suite.script.hold_decodes();
    let mut asked = Request::new(request());
    asked.set_timeout(Duration::from_secs(1));
    let stream = suite.client().await.generate(asked).await.unwrap().into_inner();
    let status = crate::suite::collect(stream).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the deadline passed in the decoder"));
}

#[tokio::test]
async fn a_client_that_goes_away_stops_all_stages() {
    let suite = Suite::start().await;
    suite.script.hold_chunks();
    suite.script.chunks.add_permits(3);
    let mut stream = suite.client().await.generate(request()).await.unwrap().into_inner();
    while !matches!(stream.message().await.unwrap().unwrap().event, Some(Event::Progress(_))) {}
    let all_open = |open: usize| {
        move |seen: &crate::script::Seen| {
            ["sampler", "decoder", "ranker"].iter().all(|stage| seen.open.get(stage) == Some(&open))
        }
    };
    suite.script.wait(all_open(1)).await;
    drop(stream);
    suite.script.wait(all_open(0)).await;
}

#[tokio::test]
async fn a_call_of_one_answer_holds_its_place_until_then() {
    let suite = Suite::with(&["--max-requests", "1"]).await;
    suite.script.hold_embeds();
    let asked = GatewayServiceEmbedRequest { texts: vec!["a".to_owned()], ..GatewayServiceEmbedRequest::default() };
    let mut client = suite.client().await;
    let embedding = tokio::spawn(async move { client.embed(asked).await });
    suite.script.wait(|seen| seen.time_left.contains_key("embed")).await;
    assert_eq!(suite.failure(request()).await.code(), Code::ResourceExhausted);
    suite.script.embeds.add_permits(1);
    embedding.await.unwrap().unwrap();
    suite.generate(request()).await.unwrap();
}

#[tokio::test]
async fn too_many_requests_are_refused_and_places_come_back() {
    let suite = Suite::with(&["--max-requests", "2"]).await;
    suite.script.hold_chunks();
    let mut client = suite.client().await;
    let held = [client.generate(request()).await.unwrap(), client.generate(request()).await.unwrap()];
    let status = suite.failure(request()).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(retry_after(&status).is_some());
    let asked = GatewayServiceEmbedRequest { texts: vec!["a".to_owned()], ..GatewayServiceEmbedRequest::default() };
    assert_eq!(client.embed(asked).await.unwrap_err().code(), Code::ResourceExhausted);
    // Both have reached the sampler, else what is given up has nothing there to end.
    suite.script.wait(|seen| seen.sampled.len() == 2).await;
    drop(held);
    suite.script.wait(|seen| seen.open.get("sampler") == Some(&0)).await;
    suite.script.chunks.add_permits(1 << 10);
    let free = async { while suite.generate(request()).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), free).await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_stage_is_named() {
    let live = Suite::start().await;
    let wrong = format!("http://{}", live.stages[0].at);
    let suite = Suite::with(&["--sampler", &wrong]).await;
    let stages = suite.client().await.list_stages(ListStagesRequest {}).await.unwrap().into_inner().stages;
    let sampler = stages.iter().find(|stage| stage.name == stage::SAMPLER).unwrap();
    assert_eq!((sampler.reachable, &*sampler.error), (false, "another service answers there"));

    let channel = Endpoint::new(format!("http://{}", suite.gateway)).unwrap().connect_lazy();
    let mut client = StatusServiceClient::new(channel);
    let expected = format!("unavailable: sampler: {wrong}: another service answers there");
    let named = async {
        while client.get_status(GetStatusRequest {}).await.unwrap().into_inner().detail != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), named).await.unwrap();
    assert!(!suite.failure(request()).await.message().ends_with(": "));
}
