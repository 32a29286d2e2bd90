//! The calls beside Generate.

use std::time::Duration;

use easel_proto::stage;
use easel_proto::v1::{
    GatewayServiceClassifyRequest, GatewayServiceEmbedRequest, GetPackageRequest, ListPackagesRequest,
    ListStagesRequest, Vocabulary,
};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::suite::{Suite, nobody};

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(width, height).write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

#[tokio::test]
async fn labels_come_back_most_likely_first() {
    let suite = Suite::start().await;
    let labels = ["one", "one two three", "one two"].map(str::to_owned).to_vec();
    let asked = GatewayServiceClassifyRequest { image: png(4, 4), labels, package: "shapes".to_owned() };
    let entries = suite.client().await.classify(asked).await.unwrap().into_inner().entries;
    let order: Vec<&str> = entries.iter().map(|entry| entry.label.as_str()).collect();
    assert_eq!(order, ["one two three", "one two", "one"]);
    assert_eq!((entries[0].probability, entries[0].clip_score), (0.5, 3.0));
    for entry in &entries {
        assert_eq!(
            (&entry.unknown_words[..], &entry.nearest_words[..]),
            (&["avocado".to_owned()][..], &["avocados".to_owned()][..])
        );
    }
    let seen = suite.script.seen();
    assert!(seen.tokenized.iter().all(|asked| asked.vocabulary() == Vocabulary::Ranker));
}

#[tokio::test]
async fn texts_and_pictures_are_embedded_in_order() {
    let suite = Suite::start().await;
    let texts = ["a", "a b"].map(str::to_owned).to_vec();
    let images = vec![png(4, 3), png(2, 9)];
    let asked = GatewayServiceEmbedRequest { texts, images, package: String::new() };
    let answer = suite.client().await.embed(asked).await.unwrap().into_inner();
    let values = |embeddings: Vec<easel_proto::v1::Embedding>| {
        embeddings.into_iter().map(|embedding| embedding.values).collect::<Vec<_>>()
    };
    assert_eq!(values(answer.texts), [vec![1.0], vec![2.0]]);
    assert_eq!(values(answer.images), [vec![4.0, 3.0], vec![2.0, 9.0]]);
}

#[tokio::test]
async fn packages_are_told_with_the_limits_and_asked_for_once() {
    let suite = Suite::with(&["--max-candidates", "12"]).await;
    let mut client = suite.client().await;
    let packages = client.list_packages(ListPackagesRequest {}).await.unwrap().into_inner().packages;
    assert_eq!(packages[0].name, "shapes");
    assert_eq!(packages[0].limits.unwrap().max_candidates, 12);
    for name in ["", "shapes"] {
        let asked = GetPackageRequest { name: name.to_owned() };
        let package = client.get_package(asked).await.unwrap().into_inner().package.unwrap();
        assert_eq!(package, packages[0]);
    }
    assert_eq!(suite.script.seen().described, 1);
    let unknown = client.get_package(GetPackageRequest { name: "nothing".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn every_replica_is_listed_with_what_it_says() {
    let dead = nobody();
    let mut suite = Suite::start().await;
    let listed = suite.client().await.list_stages(ListStagesRequest {}).await.unwrap().into_inner().stages;
    let names: Vec<&str> = listed.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["tokenizer", "sampler", "decoder", "ranker"]);
    assert!(listed.iter().all(|stage| stage.reachable && stage.status.as_ref().unwrap().ready));
    assert_eq!(listed[1].address, format!("http://{}", suite.stage(stage::SAMPLER).at));

    let two = format!("http://{dead},http://{}", suite.stage(stage::SAMPLER).at);
    let other = Suite::with(&["--sampler", &two]).await;
    let listed = other.client().await.list_stages(ListStagesRequest {}).await.unwrap().into_inner().stages;
    let samplers: Vec<bool> =
        listed.iter().filter(|stage| stage.name == "sampler").map(|stage| stage.reachable).collect();
    assert_eq!(samplers, [false, true]);
    assert!(listed.iter().any(|stage| stage.error.contains("refused")), "{listed:?}");
}

#[tokio::test]
async fn the_gateway_is_ready_while_each_stage_serves() {
    let mut suite = Suite::start().await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", suite.gateway)).unwrap().connect_lazy();
    let mut health = HealthClient::new(channel);
    let mut states = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut becomes = async |wanted: ServingStatus| {
        let wait = async { while states.message().await.unwrap().unwrap().status() != wanted {} };
        tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
    };
    becomes(ServingStatus::Serving).await;
    suite.stage(stage::RANKER).kill();
    becomes(ServingStatus::NotServing).await;
    suite.revive(stage::RANKER);
    becomes(ServingStatus::Serving).await;
}
