//! The suite, from start to end, on a tiny package of random weights.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use easel_import::{ImportOptions, synthetic};
use easel_standalone::{Config, Error, Suite};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn package(folder: &TempDir) -> PathBuf {
    let checkpoint = folder.path().join("checkpoint");
    synthetic::checkpoint(&checkpoint, &synthetic::Geometry::default(), 1).unwrap();
    let package = folder.path().join("package");
    easel_import::import(&checkpoint, &package, &ImportOptions::default(), &mut |_| {}).unwrap();
    package
}

fn config(package: &Path, listen: SocketAddr) -> Config {
    Config { package: vec![package.to_owned()], listen, ..Config::default() }
}

fn free() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Everything that the error says, its causes included.
fn told(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suite_is_ready_when_it_has_started_and_gone_when_it_is_shut_down() {
    let folder = tempfile::tempdir().unwrap();
    let suite = Suite::start(config(&package(&folder), free())).await.unwrap();
    let addresses = suite.addresses().to_vec();
    let names: Vec<&str> = addresses.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["tokenizer", "sampler", "decoder", "ranker", "gateway"]);
    assert_eq!(suite.url(), format!("http://{}", addresses[4].1));
    for (name, address) in &addresses {
        let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
        let mut health = HealthClient::new(channel.connect().await.unwrap());
        let answer = health.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{name}");
    }
    suite.shutdown().await.unwrap();
    for (name, address) in addresses {
        assert!(TcpStream::connect(address).is_err(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_service_cannot_load_fails_the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let error = Suite::start(config(&folder.path().join("nowhere"), free())).await.unwrap_err();
    assert!(told(&error).starts_with("the package cannot be used: "), "{}", told(&error));
    assert!(told(&error).contains("nowhere/manifest.json"), "{}", told(&error));

    let package = package(&folder);
    let graph = package.join("decoder.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let error = Suite::start(config(&package, free())).await.unwrap_err();
    assert!(told(&error).starts_with("the package cannot be used: "), "{}", told(&error));
    assert!(told(&error).contains("decoder.onnx"), "{}", told(&error));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named() {
    let holder = TcpListener::bind(free()).unwrap();
    let address = holder.local_addr().unwrap();
    let error = Suite::start(config(Path::new("nowhere"), address)).await.unwrap_err();
    assert!(matches!(error, Error::Listen { address: named, .. } if named == address), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_ends_well_when_it_is_told_to_stop() {
    let folder = tempfile::tempdir().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(easel_standalone::run(config(&package(&folder), free()), async {
        stopped.await.unwrap();
    }));
    stop.send(()).unwrap();
    running.await.unwrap().unwrap();
}
