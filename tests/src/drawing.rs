use std::collections::BTreeMap;

use easel_proto::v1::{
    GenerateRequest, GenerateResponse, gateway_service_client::GatewayServiceClient, generate_response::Event,
};
use tonic::{Status, Streaming, transport::Channel};

/// Larger than what the services take.
const MESSAGE_BYTES: usize = 128 << 20;

/// A client of the gateway at `url`, connecting when first used.
pub fn client(url: &str) -> GatewayServiceClient<Channel> {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect_lazy();
    GatewayServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
}

/// A request for `candidates` pictures from `seed` on, as PNG, without previews.
pub fn request(prompt: &str, candidates: u32, seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.into(),
        candidates,
        seed: Some(seed),
        format: easel_proto::v1::ImageFormat::Png.into(),
        previews: Some(0),
        ..GenerateRequest::default()
    }
}

/// A finished generation.
#[derive(Debug, Default)]
pub struct Drawing {
    /// Every event, in order.
    pub events: Vec<Event>,
    /// Seed → encoded picture.
    pub pictures: BTreeMap<u64, Vec<u8>>,
}

/// Draws, and waits for the end.
pub async fn draw(url: &str, request: GenerateRequest) -> Result<Drawing, Status> {
    collect(client(url).generate(request).await?.into_inner()).await
}

/// Reads a generation to its end.
pub async fn collect(mut stream: Streaming<GenerateResponse>) -> Result<Drawing, Status> {
    let mut drawing = Drawing::default();
    while let Some(response) = stream.message().await? {
        let event = response.event.expect("every response has an event");
        if let Event::Picture(picture) = &event {
            let image = picture.image.as_ref().expect("a picture has an image");
            drawing.pictures.insert(picture.seed, image.data.to_vec());
        }
        drawing.events.push(event);
    }
    assert!(matches!(drawing.events.last(), Some(Event::Finished(_))), "a generation ends with finished");
    Ok(drawing)
}
