//! A real package behind the service, and packages that cannot be.

use std::path::PathBuf;

use easel_decoder::Config;
use easel_import::{ImportOptions, import, synthetic};
use easel_onnx::{ImageDecoder, Options, Runtime};
use easel_package::Package;
use easel_proto::v1::{EncodeRequest, Picture, decode_response};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;

use crate::support::{Client, LONG, chunk, connect, header, within};

fn package(dir: &TempDir) -> PathBuf {
    let (from, to) = (dir.path().join("checkpoint"), dir.path().join("package"));
    synthetic::checkpoint(&from, &synthetic::Geometry::default(), 1).unwrap();
    import(&from, &to, &ImportOptions::default(), &mut |_| ()).unwrap();
    to
}

#[tokio::test]
async fn a_real_package_decodes_and_encodes() {
    let dir = TempDir::new().unwrap();
    let folder = package(&dir);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config { threads: 1, ..Config::new(vec![folder.clone()]) };
    let served = tokio::spawn(easel_decoder::serve(listener, config, std::future::pending()));
    let mut client = Client::new(connect(address));

    let tokens: Vec<u32> = (0..36).map(|i| i * 5).collect();
    let finished = loop {
        let messages = tokio_stream::iter([header(&[4], 6), chunk(4, 0, &tokens[..30]), chunk(4, 30, &tokens[30..])]);
        let mut events = client.decode(messages).await.unwrap().into_inner();
        let mut last = None;
        let end = loop {
            match within(events.message()).await {
                Ok(Some(response)) => last = response.event,
                Ok(None) => break Ok(last),
                Err(status) => break Err(status),
            }
        };
        match end {
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            end => break end.unwrap().unwrap(),
        }
    };
    let decode_response::Event::Finished(finished) = finished else { panic!("{finished:?}") };
    let picture = finished.picture.unwrap();
    assert_eq!((picture.width, picture.height), (48, 48));
    let options = Options { threads: 1, ..Options::default() };
    let mut bare = ImageDecoder::load(&Runtime::load().unwrap(), &Package::open(&folder).unwrap(), &options).unwrap();
    assert_eq!(picture.rgb8, bare.decode(&tokens).unwrap());

    let given = Some(Picture { width: 5, height: 3, rgb8: vec![90; 45].into() });
    let encoded = client.encode(EncodeRequest { package: None, picture: given }).await.unwrap().into_inner();
    assert_eq!(encoded.tokens.len(), 36);
    assert!(encoded.tokens.iter().all(|token| *token < 200));
    assert_eq!(encoded.seen.unwrap().rgb8.len(), 48 * 48 * 3);
    served.abort();
}

#[tokio::test]
async fn a_bad_package_ends_the_service_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let folder = package(&dir);
    let graph = folder.join("decoder.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    for (packages, reason) in [
        (vec![folder], "decoder.onnx: expected sha256"),
        (vec![dir.path().join("none")], "none/manifest.json: No such file"),
        (vec![], "--package: at least one is needed"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = easel_decoder::serve(listener, Config::new(packages), std::future::pending());
        let error = tokio::time::timeout(LONG, served).await.unwrap().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
