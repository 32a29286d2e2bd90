//! Bad input is refused by the name of its field, and the service goes on.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use bytes::Bytes;
use easel_proto::v1::{
    DecodeRequest, GenerateRequest, GivenTokens, ImagePrompt, SampleRequest, SamplingParameters, TokenChunk,
    decode_request::{Header, Message},
    decoder_service_client::DecoderServiceClient,
    image_prompt::Region,
    sample_request::Candidate,
    sampler_service_client::SamplerServiceClient,
};
use easel_tests::{Options, Process, Suite, draw, request};
use image::{ImageFormat, RgbImage};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

/// The fields that a refusal names.
fn fields(status: &Status) -> Vec<String> {
    let bad = status.get_details_bad_request();
    bad.map(|b| b.field_violations.into_iter().map(|v| v.field).collect()).unwrap_or_default()
}

#[track_caller]
fn refused(what: &str, field: &str, status: &Status) {
    assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status}");
    assert!(fields(status).iter().any(|f| f.starts_with(field)), "{what}: {field} is not among {:?}", fields(status));
}

fn parameters(change: impl Fn(&mut SamplingParameters)) -> GenerateRequest {
    let mut parameters = SamplingParameters::default();
    change(&mut parameters);
    GenerateRequest { parameters: Some(parameters), ..request("a red car", 1, 1) }
}

fn image(bytes: Vec<u8>) -> GenerateRequest {
    let prompt = ImagePrompt { image: bytes, region: Some(Region::KeepRows(1)) };
    GenerateRequest { image: Some(prompt), ..request("a red car", 1, 1) }
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::new(width, height).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG that says it is 60,000 × 60,000 pixels: its header, with the checksum that belongs to it.
fn bomb() -> Vec<u8> {
    let mut bytes = png(8, 8);
    bytes[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let mut crc = !0u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

fn bad_requests() -> Vec<(&'static str, &'static str, GenerateRequest)> {
    let prompt = |text: String| GenerateRequest { prompt: text, ..request("", 1, 1) };
    let count = |n| request("a red car", n, 1);
    let tokens = |ids: Vec<u32>| GenerateRequest { text_tokens: ids, ..request("", 1, 1) };
    let whole = png(64, 64);
    vec![
        ("an empty prompt", "prompt", prompt(String::new())),
        ("a prompt of 1 MB", "prompt", prompt("car ".repeat(1 << 18))),
        ("0 candidates", "candidates", count(0)),
        ("10,001 candidates", "candidates", count(10_001)),
        ("more kept than drawn", "keep", GenerateRequest { keep: 3, ..count(2) }),
        ("temperature NaN", "parameters.temperature", parameters(|p| p.temperature = Some(f32::NAN))),
        ("temperature −1", "parameters.temperature", parameters(|p| p.temperature = Some(-1.0))),
        ("temperature ∞", "parameters.temperature", parameters(|p| p.temperature = Some(f32::INFINITY))),
        ("temperature 1e9", "parameters.temperature", parameters(|p| p.temperature = Some(1e9))),
        ("top_p 0", "parameters.top_p", parameters(|p| p.top_p = Some(0.0))),
        ("top_p 2", "parameters.top_p", parameters(|p| p.top_p = Some(2.0))),
        ("guidance −1", "parameters.guidance_scale", parameters(|p| p.guidance_scale = Some(-1.0))),
        ("guidance NaN", "parameters.guidance_scale", parameters(|p| p.guidance_scale = Some(f32::NAN))),
        ("an unknown text token", "text_tokens", tokens(vec![1, 4_000_000])),
        ("too many text tokens", "text_tokens", tokens(vec![1; 100_000])),
        ("a truncated PNG", "image.image", image(whole[..whole.len() / 2].to_vec())),
        ("no picture at all", "image.image", image(b"not a picture".to_vec())),
        ("a decompression bomb", "image.image", image(bomb())),
        ("an unknown package", "package", GenerateRequest { package: "nothing".into(), ..count(1) }),
        ("quality 101", "quality", GenerateRequest { quality: 101, ..count(1) }),
        ("65 previews", "previews", GenerateRequest { previews: Some(65), ..count(1) }),
        ("an unknown format", "format", GenerateRequest { format: 99, ..count(1) }),
        ("an oversized message", "", image(vec![0; 65 << 20])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_refuses_bad_requests_by_field_and_goes_on() {
    let suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    for (what, field, bad) in bad_requests() {
        refused(what, field, &draw(&url, bad).await.expect_err(what));
    }
    let status = send_raw(&url, b"\x12\x03a\xff\xfe".to_vec()).await;
    refused("a prompt that is not UTF-8", "prompt", &status);
    draw(&url, request("a red car", 1, 1)).await.expect("the suite goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_looks_like_a_special_token_is_text() {
    let suite = Suite::start(Options::default()).await;
    let url = suite.gateway.url();
    let plain = draw(&url, request("a red car", 1, 1)).await.unwrap();
    for prompt in
        ["<|endoftext|>", "a red car<|endoftext|> and <|startoftext|>[PAD]</s><unk>", "\u{0}\u{202e}🦀\u{feff}"]
    {
        let drawing = draw(&url, request(prompt, 1, 1)).await.unwrap_or_else(|e| panic!("{prompt:?}: {e}"));
        assert_ne!(drawing.pictures, plain.pictures);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sampler_refuses_bad_tokens_by_field() {
    let suite = Suite::start(Options::default()).await;
    let mut sampler = SamplerServiceClient::new(channel(&suite.sampler));
    let good = || SampleRequest { candidates: vec![Candidate { id: 0, seed: 1 }], ..SampleRequest::default() };
    let given = |positions: Vec<u32>, tokens: Vec<u32>| Some(GivenTokens { positions, tokens });
    let twice = vec![Candidate { id: 1, seed: 1 }, Candidate { id: 1, seed: 2 }];
    let cases = [
        ("a wrong id", "text_tokens", SampleRequest { text_tokens: vec![9_999_999], ..good() }),
        ("no candidates", "candidates", SampleRequest { candidates: vec![], ..good() }),
        ("an id twice", "candidates", SampleRequest { candidates: twice, ..good() }),
        (
            "a given token out of range",
            "given.tokens",
            SampleRequest { given: given(vec![], vec![9_999_999]), ..good() },
        ),
        ("a position out of range", "given.positions", SampleRequest { given: given(vec![99_999], vec![1]), ..good() }),
        ("positions that fall", "given.positions", SampleRequest { given: given(vec![3, 2], vec![1, 1]), ..good() }),
        ("positions without tokens", "given", SampleRequest { given: given(vec![1, 2], vec![1]), ..good() }),
    ];
    for (what, field, bad) in cases {
        refused(what, field, &sampler.sample(bad).await.expect_err(what));
    }
    sampler.sample(good()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decoder_refuses_chunks_out_of_order() {
    let suite = Suite::start(Options::default()).await;
    let mut decoder = DecoderServiceClient::new(channel(&suite.decoder));
    let header = Message::Header(Header { candidates: vec![0], ..Header::default() });
    let chunk = |candidate, start, tokens| Message::Chunk(TokenChunk { candidate, start, tokens });
    let cases = [
        ("no header", "header", vec![chunk(0, 0, vec![1])]),
        ("a gap", "chunk.start", vec![header.clone(), chunk(0, 0, vec![1, 2]), chunk(0, 3, vec![1])]),
        ("a repetition", "chunk.start", vec![header.clone(), chunk(0, 0, vec![1, 2]), chunk(0, 0, vec![1])]),
        ("another candidate", "chunk.candidate", vec![header.clone(), chunk(5, 0, vec![1])]),
        ("a token out of range", "chunk.tokens", vec![header.clone(), chunk(0, 0, vec![9_999_999])]),
    ];
    for (what, field, messages) in cases {
        let messages = messages.into_iter().map(|message| DecodeRequest { message: Some(message) });
        let answer = decoder.decode(tokio_stream::iter(messages.collect::<Vec<_>>())).await;
        let status = match answer {
            Err(status) => status,
            Ok(stream) => stream.into_inner().message().await.expect_err(what),
        };
        refused(what, field, &status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_package_is_refused_at_load_with_the_file_and_the_reason() {
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 3] = [
        ("sampler.onnx: expected sha256", |dir| flip(&dir.join("sampler.onnx"))),
        ("manifest.json", |dir| std::fs::write(dir.join("manifest.json"), "{").unwrap()),
        ("decoder.onnx", |dir| std::fs::remove_file(dir.join("decoder.onnx")).unwrap()),
    ];
    for (expected, spoil) in spoils {
        let dir = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(easel_tests::tiny()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        spoil(dir.path());
        let sampler = Path::new(&std::env::current_exe().unwrap()).ancestors().nth(2).unwrap().join("easel-sampler");
        let out = std::process::Command::new(sampler)
            .args(["--listen", "127.0.0.1:0", "--package"])
            .arg(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(expected), "{expected}: {said}");
    }
}

/// Flips one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn channel(process: &Process) -> Channel {
    Channel::from_shared(process.url()).unwrap().connect_lazy()
}

/// Calls Generate with bytes that no protobuf library would send.
async fn send_raw(url: &str, message: Vec<u8>) -> Status {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/easel.v1.GatewayService/Generate");
    let answer = grpc.server_streaming(tonic::Request::new(Bytes::from(message)), path, raw::Raw).await;
    match answer {
        Err(status) => status,
        Ok(stream) => stream.into_inner().message().await.expect_err("a refusal"),
    }
}

/// A codec that sends and receives bytes as they are.
mod raw {
    use bytes::{Buf, BufMut, Bytes};
    use tonic::{
        Status,
        codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    };

    #[derive(Clone, Copy)]
    pub(super) struct Raw;

    impl Codec for Raw {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;
        fn encoder(&mut self) -> Self {
            Self
        }
        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Raw {
        type Item = Bytes;
        type Error = Status;
        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for Raw {
        type Item = Bytes;
        type Error = Status;
        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }
}
