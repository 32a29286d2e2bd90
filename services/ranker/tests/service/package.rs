//! A real package behind the service.

use easel_import::{ImportOptions, import, synthetic};
use easel_onnx::{Clip, Options, Runtime};
use easel_package::Package;
use easel_proto::v1::{ClassifyRequest, EmbedRequest, Picture, TextTokens};
use easel_ranker::Config;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;

use crate::support::{Client, connect};

#[tokio::test]
async fn a_real_package_embeds_and_classifies() {
    let dir = TempDir::new().unwrap();
    let (from, folder) = (dir.path().join("checkpoint"), dir.path().join("package"));
    synthetic::checkpoint(&from, &synthetic::Geometry::default(), 1).unwrap();
    let package = import(&from, &folder, &ImportOptions::default(), &mut |_| ()).unwrap();
    let ranker = package.manifest().ranker.clone().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config { threads: 1, ..Config::new(vec![folder.clone()]) };
    let served = tokio::spawn(easel_ranker::serve(listener, config, std::future::pending()));
    let mut client = Client::new(connect(address));

    let end = ranker.text.vocabulary - 1;
    let texts = [vec![end - 1, 70, 71, end], vec![end - 1, 80, end]];
    let labels: Vec<_> = texts.iter().map(|ids| TextTokens { ids: ids.clone() }).collect();
    let pixels: Vec<u8> = (0..50 * 40 * 3).map(|i| (i * 7 % 251) as u8).collect();
    let picture = Picture { width: 50, height: 40, rgb8: pixels.clone().into() };
    let request = EmbedRequest { package: None, texts: labels.clone(), pictures: vec![picture.clone()] };
    let embedded = loop {
        match client.embed(request.clone()).await {
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            end => break end.unwrap().into_inner(),
        }
    };

    let options = Options { threads: 1, ..Options::default() };
    let mut bare = Clip::load(&Runtime::load().unwrap(), &Package::open(&folder).unwrap(), &options).unwrap();
    let seen = ranker.preprocess.apply(50, 40, &pixels).unwrap();
    assert_eq!(embedded.pictures[0].values, bare.embed_images(&seen).unwrap());
    let width = ranker.embedding_width as usize;
    for (text, ids) in embedded.texts.iter().zip(&texts) {
        let mut padded = ids.clone();
        padded.resize(ranker.text.context_length as usize, ranker.text.pad);
        let expected = bare.embed_texts(&padded).unwrap();
        assert_eq!(text.values.len(), width);
        let difference = text.values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(difference < 1e-5, "{difference}");
    }

    let request = ClassifyRequest { package: None, picture: Some(picture), labels };
    let classes = client.classify(request).await.unwrap().into_inner();
    let sum: f32 = classes.probabilities.iter().sum();
    assert!((sum - 1.0).abs() < 1e-5);
    assert!(classes.clip_scores.iter().all(|score| (-1.0..=1.0).contains(score)));
    served.abort();
}
