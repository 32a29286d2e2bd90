//! Health and status tell the truth about readiness.

use easel_proto::v1::GetStatusRequest;
use easel_proto::v1::status_service_client::StatusServiceClient;
use easel_server::Config;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::support::{Script, start, within};

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_follows_readiness() -> Result<(), Status> {
    let running = start(Script::Brief, Config::default()).await;
    let mut client = HealthClient::new(running.channel());
    let mut watch = client.watch(about("easel.v1.SamplerService")).await?.into_inner();
    assert_eq!(within(watch.message()).await?.map(|m| m.status()), Some(ServingStatus::NotServing));

    for ready in [false, true] {
        let expected = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        if ready {
            running.readiness.ready();
        }
        for service in ["", "easel.v1.SamplerService"] {
            let answer = client.check(about(service)).await?.into_inner();
            assert_eq!(answer.status(), expected, "{service:?}");
        }
    }
    assert_eq!(within(watch.message()).await?.map(|m| m.status()), Some(ServingStatus::Serving));
    let unknown = client.check(about("easel.v1.DecoderService")).await;
    assert_eq!(unknown.map_err(|status| status.code()).err(), Some(Code::NotFound));

    running.readiness.unready("the model is lost");
    assert_eq!(within(watch.message()).await?.map(|m| m.status()), Some(ServingStatus::NotServing));
    running.end().await;
    Ok(())
}

#[tokio::test]
async fn a_watch_of_health_does_not_delay_the_end() -> Result<(), Status> {
    let running = start(Script::Brief, Config::default()).await;
    running.readiness.ready();
    let mut client = HealthClient::new(running.channel());
    let mut watch = client.watch(about("")).await?.into_inner();
    assert_eq!(within(watch.message()).await?.map(|m| m.status()), Some(ServingStatus::Serving));
    running.end().await;
    let end = loop {
        match within(watch.message()).await {
            Ok(message) => assert_eq!(message.map(|m| m.status()), Some(ServingStatus::NotServing)),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
    Ok(())
}

#[tokio::test]
async fn status_tells_load_and_readiness() -> Result<(), Status> {
    let running = start(Script::Brief, Config::default()).await;
    running.readiness.unready("loading the model");
    let mut client = StatusServiceClient::new(running.channel());
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    assert_eq!((status.ready, &*status.detail), (false, "loading the model"));

    running.readiness.ready();
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    assert_eq!((status.ready, &*status.detail), (true, "two threads"));
    assert_eq!((&*status.service, status.queue_depth, status.queue_capacity), ("sampler", 3, 8));
    assert_eq!((status.slots_in_use, status.slots_total), (5, 6));
    assert_eq!(status.packages[0].name, "shapes");
    assert!(status.resident_memory_bytes > 1 << 20);
    running.end().await;
    Ok(())
}
