//! What cannot be asked for is refused with the field's name, before any stage works, and the gateway serves on.

use easel_proto::v1::{
    Cell, GatewayServiceClassifyRequest, GatewayServiceEmbedRequest, GenerateRequest, GenerateResponse, ImagePrompt,
    RankBy, SamplingParameters, Vocabulary, image_prompt::Region,
};
use tonic::{Request, Status};

use crate::suite::{Suite, field, request};

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = std::io::Cursor::new(Vec::new());
    image::DynamicImage::new_rgb8(width, height).write_to(&mut png, image::ImageFormat::Png).unwrap();
    png.into_inner()
}

fn parameters(change: impl FnOnce(&mut SamplingParameters)) -> GenerateRequest {
    let mut parameters = SamplingParameters::default();
    change(&mut parameters);
    GenerateRequest { parameters: Some(parameters), ..request() }
}

fn guided() -> GenerateRequest {
    parameters(|p| p.guidance_scale = Some(3.0))
}

fn with_image(image: Vec<u8>, region: Option<Region>) -> GenerateRequest {
    GenerateRequest { image: Some(ImagePrompt { image, region }), ..request() }
}

fn tokens_ranked_by(order: RankBy) -> GenerateRequest {
    GenerateRequest { prompt: String::new(), text_tokens: vec![1], rank_by: order.into(), ..request() }
}

fn cases() -> Vec<(&'static str, GenerateRequest)> {
    let redraw = |row, column| Some(Region::RedrawFrom(Cell { row, column }));
    let keep = |rows| Some(Region::KeepRows(rows));
    let mut cases = vec![
        ("prompt", GenerateRequest { prompt: String::new(), ..request() }),
        ("prompt", GenerateRequest { prompt: " \n\t".to_owned(), ..request() }),
        ("prompt", GenerateRequest { prompt: "x".repeat(1 << 20), ..request() }),
        ("prompt", GenerateRequest { prompt: "x".repeat((16 << 10) + 1), text_tokens: vec![1], ..request() }),
        ("negative_prompt", GenerateRequest { negative_prompt: " \n".to_owned(), ..guided() }),
        ("negative_prompt", GenerateRequest { negative_prompt: "x".repeat((16 << 10) + 1), ..guided() }),
        ("negative_prompt", GenerateRequest { negative_prompt: "a cat".to_owned(), ..request() }),
        ("candidates", GenerateRequest { candidates: 0, ..request() }),
        ("candidates", GenerateRequest { candidates: 65, ..request() }),
        ("candidates", GenerateRequest { candidates: 10_001, ..request() }),
        ("keep", GenerateRequest { keep: 3, ..request() }),
        ("keep", GenerateRequest { keep: 1, prompt: String::new(), text_tokens: vec![1], ..request() }),
        ("rank_by", GenerateRequest { rank_by: 5, ..request() }),
        ("rank_by", GenerateRequest { rank_by: RankBy::CaptionGain.into(), ..request() }),
        ("rank_by", tokens_ranked_by(RankBy::Clip)),
        ("rank_by", tokens_ranked_by(RankBy::Both)),
        ("quality", GenerateRequest { quality: 101, ..request() }),
        ("format", GenerateRequest { format: 99, ..request() }),
        ("previews", GenerateRequest { previews: Some(65), ..request() }),
        ("package", GenerateRequest { package: "nothing".to_owned(), ..request() }),
        ("text_tokens[1]", GenerateRequest { text_tokens: vec![63, 64], ..request() }),
        ("text_tokens", GenerateRequest { text_tokens: vec![1; 9], ..request() }),
        ("parameters.top_k", parameters(|p| p.top_k = Some(33))),
        ("image.image", with_image(Vec::new(), keep(1))),
        ("image.image", with_image(b"no picture".to_vec(), keep(1))),
        ("image.image", with_image(png(8, 8)[..60].to_vec(), keep(1))),
        ("image.image", with_image(png(4001, 4000), keep(1))),
        ("image.image", with_image(vec![0; (20 << 20) + 1], keep(1))),
        ("image.region", with_image(png(8, 8), None)),
        ("image.keep_rows", with_image(png(8, 8), keep(0))),
        ("image.keep_rows", with_image(png(8, 8), keep(4))),
        ("image.redraw_from", with_image(png(8, 8), redraw(0, 0))),
        ("image.redraw_from", with_image(png(8, 8), redraw(4, 0))),
        ("image.redraw_from", with_image(png(8, 8), redraw(0, u32::MAX))),
    ];
    for wrong in [f32::NAN, -1.0, 101.0, f32::INFINITY] {
        cases.push(("parameters.temperature", parameters(|p| p.temperature = Some(wrong))));
        cases.push(("parameters.guidance_scale", parameters(|p| p.guidance_scale = Some(wrong))));
        cases.push(("parameters.top_p", parameters(|p| p.top_p = Some(wrong))));
    }
    cases.push(("parameters.top_p", parameters(|p| p.top_p = Some(0.0))));
    cases
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_field() {
    let suite = Suite::start().await;
    for (expected, asked) in cases() {
        let status = suite.failure(asked).await;
        assert_eq!(field(&status), expected, "{}", status.message());
    }
    let seen = suite.script.seen();
    assert!(seen.tokenized.is_empty() && seen.encoded.is_empty() && seen.sampled.is_empty());
    suite.generate(request()).await.unwrap();
}

#[tokio::test]
async fn what_the_package_cannot_do_is_refused() {
    let suite = Suite::start().await;
    suite.change(|package| {
        package.ranking = false;
        package.guidance = false;
        package.image_prompts = false;
    });
    let guided = parameters(|p| p.guidance_scale = Some(3.0));
    assert_eq!(field(&suite.failure(guided).await), "parameters.guidance_scale");
    assert_eq!(field(&suite.failure(GenerateRequest { keep: 1, ..request() }).await), "keep");
    for order in [RankBy::Clip, RankBy::Both, RankBy::CaptionGain] {
        let asked = GenerateRequest { rank_by: order.into(), ..request() };
        assert_eq!(field(&suite.failure(asked).await), "rank_by");
    }
    let pictured = with_image(png(8, 8), Some(Region::KeepRows(1)));
    assert_eq!(field(&suite.failure(pictured).await), "image");
}

#[tokio::test]
async fn a_model_that_reads_no_captions_is_asked_for_none() {
    let suite = Suite::start().await;
    suite.change(|package| {
        package.text_length = 0;
        package.ranking = false;
    });
    assert_eq!(field(&suite.failure(request()).await), "prompt");
    let bare = GenerateRequest { prompt: String::new(), ..request() };
    let asked = GenerateRequest { text_tokens: vec![1], ..bare.clone() };
    assert_eq!(field(&suite.failure(asked).await), "text_tokens");
    let pictured = with_image(png(8, 8), Some(Region::KeepRows(1)));
    for asked in [bare.clone(), GenerateRequest { prompt: String::new(), ..pictured }] {
        suite.generate(asked).await.unwrap();
    }
    let seen = suite.script.seen();
    assert!(seen.tokenized.is_empty() && seen.sampled.iter().all(|asked| asked.text_tokens.is_empty()));
    assert_eq!(seen.sampled.iter().map(|asked| asked.given.is_some()).collect::<Vec<_>>(), [false, true]);

    // With CLIP, a prompt is what the pictures are ranked by, and no more.
    let suite = Suite::start().await;
    suite.change(|package| package.text_length = 0);
    assert_eq!(field(&suite.failure(GenerateRequest { keep: 1, ..bare }).await), "keep");
    suite.generate(GenerateRequest { keep: 1, ..request() }).await.unwrap();
    let seen = suite.script.seen();
    assert_eq!(seen.tokenized.iter().map(|asked| asked.vocabulary()).collect::<Vec<_>>(), [Vocabulary::Ranker]);
    assert!(seen.sampled[0].text_tokens.is_empty());
}

/// A request whose prompt need not be UTF-8.
#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "2")]
    prompt: Vec<u8>,
    #[prost(uint32, tag = "4")]
    candidates: u32,
}

async fn send_bytes(suite: &Suite, prompt: Vec<u8>) -> Status {
    let channel =
        tonic::transport::Endpoint::new(format!("http://{}", suite.gateway)).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Bytes, GenerateResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/easel.v1.GatewayService/Generate");
    client.server_streaming(Request::new(Bytes { prompt, candidates: 1 }), path, codec).await.unwrap_err()
}

#[tokio::test]
async fn a_prompt_that_is_no_utf8_is_refused_by_name() {
    let suite = Suite::start().await;
    assert_eq!(field(&send_bytes(&suite, vec![b'a', 0xff, 0xfe]).await), "prompt");
    suite.generate(request()).await.unwrap();
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let suite = Suite::start().await;
    assert_eq!(field(&send_bytes(&suite, vec![b'a'; 30 << 20]).await), "request");
    suite.generate(request()).await.unwrap();
}

#[tokio::test]
async fn labels_and_texts_are_checked() {
    let suite = Suite::with(&["--max-labels", "2"]).await;
    let mut client = suite.client().await;
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let image = png(8, 8);
    for (expected, labels, image) in [
        ("labels", strings(&[]), image.clone()),
        ("labels", strings(&["a", "b", "c"]), image.clone()),
        ("labels[1]", strings(&["a", " "]), image.clone()),
        ("image", strings(&["a"]), Vec::new()),
        ("image", strings(&["a"]), image[..50].to_vec()),
    ] {
        let asked = GatewayServiceClassifyRequest { labels, image, ..GatewayServiceClassifyRequest::default() };
        assert_eq!(field(&client.classify(asked).await.unwrap_err()), expected);
    }
    for (expected, texts, images) in [
        ("texts", strings(&[]), Vec::new()),
        ("texts[0]", strings(&[""]), Vec::new()),
        ("images", strings(&[]), vec![image.clone(); 3]),
        ("images[1]", strings(&["a"]), vec![image.clone(), b"none".to_vec()]),
    ] {
        let asked = GatewayServiceEmbedRequest { texts, images, ..GatewayServiceEmbedRequest::default() };
        assert_eq!(field(&client.embed(asked).await.unwrap_err()), expected);
    }
    let other = Suite::start().await;
    other.change(|package| package.ranking = false);
    let asked = GatewayServiceEmbedRequest { texts: strings(&["a"]), ..GatewayServiceEmbedRequest::default() };
    let status = other.client().await.embed(asked).await.unwrap_err();
    assert_eq!(field(&status), "package");
}
