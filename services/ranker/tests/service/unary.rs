//! Embed and Classify.

use easel_proto::v1::{ClassifyRequest, EmbedRequest, Picture, TextTokens};
use tonic::Code;

use crate::support::{Service, field, picture, refer, text};

fn classify(degrees: u8, labels: &[u32]) -> ClassifyRequest {
    let labels = labels.iter().map(|degrees| text(*degrees)).collect();
    ClassifyRequest { package: None, picture: Some(picture(degrees)), labels }
}

#[tokio::test]
async fn embeddings_come_in_order() {
    let mut service = Service::free().await;
    let texts: Vec<u32> = (0..100).collect();
    let request = EmbedRequest {
        package: None,
        texts: texts.iter().map(|degrees| text(*degrees)).collect(),
        pictures: vec![picture(170), picture(90)],
    };
    let response = service.client.embed(request).await.unwrap().into_inner();
    let angles = |embeddings: Vec<easel_proto::v1::Embedding>| -> Vec<u32> {
        let angle = |values: &[f32]| values[1].atan2(values[0]).to_degrees().round() as u32;
        embeddings.iter().map(|embedding| angle(&embedding.values)).collect()
    };
    assert_eq!(angles(response.texts), texts);
    assert_eq!(angles(response.pictures), [170, 90]);
    let runs = service.runs().into_iter().filter(|run| run.0 == "texts").count();
    assert!(runs < 20, "100 texts took {runs} runs");
    service.end().await;
}

#[tokio::test]
async fn labels_get_probabilities_that_sum_to_one() {
    let mut service = Service::free().await;
    let response = service.client.classify(classify(30, &[90, 29, 210])).await.unwrap().into_inner();
    let sum: f32 = response.probabilities.iter().sum();
    assert!((sum - 1.0).abs() < 1e-6);
    assert!(response.probabilities[1] > 0.999);
    assert!((response.clip_scores[0] - 0.5).abs() < 1e-6 && (response.clip_scores[2] + 1.0).abs() < 1e-6);
    let labels: Vec<u32> = (0..1024).map(|i| i % 360).collect();
    let many = service.client.classify(classify(0, &labels)).await.unwrap().into_inner();
    assert_eq!(many.probabilities.len(), 1024);
    service.end().await;
}

#[tokio::test]
async fn labels_are_compared_without_what_lies_where() {
    let mut service = Service::free().await;
    let request = |name| ClassifyRequest { package: refer(name, ""), ..classify(30, &[90, 29, 210]) };
    let whole = service.client.classify(request("shapes")).await.unwrap().into_inner();
    let placed = service.client.classify(request("placed")).await.unwrap().into_inner();
    for (a, b) in whole.clip_scores.iter().zip(&placed.clip_scores) {
        assert!((a - b).abs() < 1e-6, "{whole:?} {placed:?}");
    }
    assert!(placed.probabilities[1] > 0.999);
    service.end().await;
}

#[tokio::test]
async fn bad_requests_are_refused_by_field_and_the_service_goes_on() {
    let mut service = Service::free().await;
    let none = || ClassifyRequest { picture: None, ..classify(0, &[1]) };
    let empty = || ClassifyRequest { labels: vec![text(1), TextTokens::default()], ..classify(0, &[]) };
    let cases = [
        (none(), "picture"),
        (classify(0, &[]), "labels"),
        (classify(0, &[1; 1025]), "labels"),
        (empty(), "labels[1].ids"),
        (classify(0, &[1, 1000]), "labels[1].ids[0]"),
    ];
    for (request, expected) in cases {
        assert_eq!(field(&service.client.classify(request).await.unwrap_err()), expected);
    }
    let embed = |texts, pictures| EmbedRequest { package: None, texts, pictures };
    let cases = [
        (embed(vec![], vec![]), "texts"),
        (embed(vec![text(1); 1025], vec![]), "texts"),
        (embed(vec![], vec![picture(1); 1025]), "pictures"),
        (embed(vec![text(1000)], vec![]), "texts[0].ids[0]"),
        (embed(vec![], vec![picture(1), Picture::default()]), "pictures[1].width"),
    ];
    for (request, expected) in cases {
        assert_eq!(field(&service.client.embed(request).await.unwrap_err()), expected);
    }
    let request = ClassifyRequest { package: refer("plain", ""), ..classify(0, &[1]) };
    let refused = service.client.classify(request).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::FailedPrecondition, "package plain has no ranker"));
    service.client.classify(classify(0, &[1])).await.unwrap();
    service.end().await;
}
