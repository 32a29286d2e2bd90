//! The calls beside Generate.

use easel_client::Client;

use crate::gateway;

#[tokio::test]
async fn the_other_calls_answer_in_own_types() {
    let gateway = gateway::start().await;
    let client = Client::lazy(format!("http://{}", gateway.address)).unwrap();
    assert_eq!(client.packages().await.unwrap()[0].name, "scenes");
    assert_eq!(client.package("other").await.unwrap().name, "other");
    let labels = client.classify([1, 2, 3], ["a cat", "a dog"]).await.unwrap();
    assert_eq!(labels.iter().map(|l| l.label.as_str()).collect::<Vec<_>>(), ["a cat", "a dog"]);
    let embeddings = client.embed(["ab"], [vec![1, 2, 3]]).await.unwrap();
    assert_eq!((embeddings.texts, embeddings.images), (vec![vec![2.0]], vec![vec![3.0]]));
    let stages = client.stages().await.unwrap();
    assert!(!stages[0].reachable);
    assert_eq!(stages[0].error, "connection refused");
}
