//! The tokenizer over gRPC, with a real package.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use easel_import::{ImportOptions, import, synthetic};
use easel_proto::v1::tokenizer_service_client::TokenizerServiceClient;
use easel_proto::v1::{
    DescribePackagesRequest, DetokenizeRequest, Grid, PackageRef, TokenizeRequest, TokenizeResponse, Vocabulary,
};
use easel_server::channel;
use easel_tokenizer::{Config, Error};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

type Client = TokenizerServiceClient<Channel>;

struct Service {
    client: Client,
    dir: TempDir,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

/// Imports a synthetic checkpoint into `dir`/`name`.
fn package(dir: &TempDir, name: &str) -> PathBuf {
    let (from, to) = (dir.path().join(format!("{name}-checkpoint")), dir.path().join(name));
    let geometry = synthetic::Geometry { name: name.into(), ..Default::default() };
    synthetic::checkpoint(&from, &geometry, 1).unwrap();
    import(&from, &to, &ImportOptions::default(), &mut |_| ()).unwrap();
    to
}

fn client(address: SocketAddr) -> Client {
    Client::new(channel::endpoint(format!("http://{address}")).unwrap().connect_lazy())
}

impl Service {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let config = Config::new(vec![package(&dir, "one"), package(&dir, "two")]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { stopped.await.unwrap_or(()) };
        let served = tokio::spawn(easel_tokenizer::serve(listener, config, shutdown));
        let client = client(address);
        let mut service = Self { client, dir, stop, served };
        while let Err(status) = service.client.describe_packages(DescribePackagesRequest {}).await {
            assert_eq!(status.code(), Code::Unavailable);
        }
        service
    }

    async fn tokenize(&mut self, prompt: &str, vocabulary: Vocabulary) -> Result<TokenizeResponse, Status> {
        let request = TokenizeRequest { prompt: prompt.into(), vocabulary: vocabulary.into(), package: None };
        Ok(self.client.tokenize(request).await?.into_inner())
    }

    async fn end(self) {
        drop(self.client);
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(20), self.served).await.unwrap().unwrap().unwrap();
    }
}

fn field(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations[0].field.clone()
}

#[tokio::test]
async fn captions_become_tokens_and_text_again() {
    let mut service = Service::start().await;
    let sampler = service.tokenize("A red car, a ZEBRA", Vocabulary::Unspecified).await.unwrap();
    assert_eq!(sampler.package.as_ref().unwrap().name, "one");
    assert_eq!((sampler.unknown_words, sampler.nearest_words), (vec!["zebra".to_owned()], vec![String::new()]));
    assert!(!sampler.truncated);
    let pieces: Vec<_> =
        sampler.tokens[..3].iter().map(|token| (token.piece.as_str(), token.start, token.end)).collect();
    assert_eq!(pieces, [("Ġa", 0, 1), ("Ġred", 1, 5), ("Ġcar", 5, 9)]);

    let ranker = service.tokenize("A red car, a ZEBRA", Vocabulary::Ranker).await.unwrap();
    assert_eq!(ranker.tokens.len(), sampler.tokens.len() + 2);
    assert_eq!(ranker.tokens[0].piece, "<|startoftext|>");
    assert_eq!((ranker.tokens[0].start, ranker.tokens[0].end), (0, 0));

    let ids = sampler.tokens.iter().map(|token| token.id).collect();
    let request = DetokenizeRequest { ids, ..Default::default() };
    let text = service.client.detokenize(request).await.unwrap().into_inner().text;
    assert_eq!(text.trim_start(), "a red car, a zebra");
    service.end().await;
}

#[tokio::test]
async fn words_that_were_not_taught_are_named_with_the_nearest_that_was() {
    let mut service = Service::start().await;
    let response = service.tokenize("a reed car, 2 zebras!", Vocabulary::Sampler).await.unwrap();
    assert_eq!(response.unknown_words, ["reed", "zebras"]);
    assert_eq!(response.nearest_words, ["red", ""]);
    service.end().await;
}

#[tokio::test]
async fn long_captions_are_cut_and_say_so() {
    let mut service = Service::start().await;
    let caption = "a red car on the beach, ".repeat(600);
    let sampler = service.tokenize(&caption, Vocabulary::Sampler).await.unwrap();
    assert_eq!((sampler.tokens.len(), sampler.truncated), (16, true));
    let ranker = service.tokenize(&caption, Vocabulary::Ranker).await.unwrap();
    assert_eq!((ranker.tokens.len(), ranker.truncated), (20, true));
    assert_eq!(ranker.tokens[19].piece, "<|endoftext|>");
    service.end().await;
}

#[tokio::test]
async fn special_text_and_white_space_are_text() {
    let mut service = Service::start().await;
    let response = service.tokenize("<|endoftext|>", Vocabulary::Ranker).await.unwrap();
    let ends = response.tokens.iter().filter(|token| token.piece == "<|endoftext|>");
    assert_eq!(ends.count(), 1);
    assert!(!service.tokenize(" ", Vocabulary::Sampler).await.unwrap().tokens.is_empty());
    service.end().await;
}

#[tokio::test]
async fn bad_requests_are_refused_by_field_and_the_service_goes_on() {
    let mut service = Service::start().await;
    for prompt in [String::new(), "a".repeat((16 << 10) + 1), "a".repeat(1 << 20)] {
        let refusal = service.tokenize(&prompt, Vocabulary::Sampler).await.unwrap_err();
        assert_eq!(field(&refusal), "prompt");
    }
    let request = TokenizeRequest { prompt: "a".into(), vocabulary: 7, ..Default::default() };
    assert_eq!(field(&service.client.tokenize(request).await.unwrap_err()), "vocabulary");
    let request = DetokenizeRequest { ids: vec![1, 2, 9_999], ..Default::default() };
    assert_eq!(field(&service.client.detokenize(request).await.unwrap_err()), "ids[2]");
    let request = DetokenizeRequest { ids: vec![1; (16 << 10) + 1], ..Default::default() };
    assert_eq!(field(&service.client.detokenize(request).await.unwrap_err()), "ids");
    let refer = |name: &str, digest: &str| Some(PackageRef { name: name.into(), digest: digest.into() });
    for (package, code) in [(refer("three", ""), Code::NotFound), (refer("two", "00"), Code::FailedPrecondition)] {
        let request = TokenizeRequest { prompt: "a".into(), package, vocabulary: 0 };
        assert_eq!(service.client.tokenize(request).await.unwrap_err().code(), code);
    }
    service.tokenize("a red car", Vocabulary::Sampler).await.unwrap();
    service.end().await;
}

#[tokio::test]
async fn packages_are_described_from_their_manifests() {
    let mut service = Service::start().await;
    let packages = service.client.describe_packages(DescribePackagesRequest {}).await.unwrap().into_inner().packages;
    assert_eq!(packages.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let package = &packages[0];
    let opened = easel_package::Package::open(service.dir.path().join("one")).unwrap();
    assert_eq!(package.digest, opened.digest());
    assert_eq!(package.grid, Some(Grid { rows: 6, columns: 6 }));
    assert_eq!((package.image_width, package.codebook_size, package.text_length), (48, 200, 16));
    let defaults = package.defaults.unwrap();
    assert!(defaults.temperature.is_some() && defaults.top_k.is_some());
    assert!(defaults.top_p.is_some() && defaults.guidance_scale.is_some());
    assert!(package.guidance && package.image_prompts && package.ranking && package.limits.is_none());

    let request = TokenizeRequest {
        prompt: "a".into(),
        package: Some(PackageRef { name: "two".into(), digest: packages[1].digest.clone() }),
        vocabulary: 0,
    };
    let answered = service.client.tokenize(request).await.unwrap().into_inner().package.unwrap();
    assert_eq!(answered.name, "two");
    service.end().await;
}

#[tokio::test]
async fn a_package_without_a_ranker_has_no_vocabulary_for_it() {
    let dir = TempDir::new().unwrap();
    let folder = package(&dir, "plain");
    let mut manifest = easel_package::Package::open(&folder).unwrap().manifest().clone();
    manifest.ranker = None;
    manifest.text.words = None;
    easel_package::Package::seal(&folder, manifest).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(easel_tokenizer::serve(listener, Config::new(vec![folder]), std::future::pending()));
    let mut client = client(address);
    let request = |vocabulary: Vocabulary| TokenizeRequest {
        prompt: "a zebra".into(),
        vocabulary: vocabulary.into(),
        package: None,
    };
    let refusal = loop {
        match client.tokenize(request(Vocabulary::Ranker)).await.unwrap_err() {
            status if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            status => break status,
        }
    };
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    assert_eq!(refusal.message(), "package plain has no ranker, and so no vocabulary for it");
    let sampler = client.tokenize(request(Vocabulary::Sampler)).await.unwrap().into_inner();
    assert!(sampler.unknown_words.is_empty());
    served.abort();
}

#[tokio::test]
async fn a_bad_package_ends_the_service_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let folder = package(&dir, "one");
    let twice = vec![folder.clone(), folder.clone()];
    for (packages, reason) in [
        (vec![dir.path().join("none")], "none/manifest.json: No such file"),
        (twice, "--package: one is given twice"),
        (vec![], "--package: at least one is needed"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = easel_tokenizer::serve(listener, Config::new(packages), std::future::pending());
        let error = tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
