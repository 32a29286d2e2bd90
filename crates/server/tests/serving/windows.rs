//! Calls of one connection do not wait for each other.

use easel_proto::v1::decode_request::Message;
use easel_proto::v1::decoder_service_client::DecoderServiceClient;
use easel_proto::v1::decoder_service_server::{self, DecoderService, DecoderServiceServer};
use easel_proto::v1::{DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, Picture, TokenChunk};
use easel_server::Config;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::support::{start_routes, within};

/// Streams that nobody reads: together they hold several times what one may.
const UNREAD: usize = 32;

/// A decoder that reads no chunk.
struct Deaf;

#[tonic::async_trait]
impl DecoderService for Deaf {
    type DecodeStream = BoxStream<'static, Result<DecodeResponse, Status>>;

    async fn decode(&self, chunks: Request<Streaming<DecodeRequest>>) -> Result<Response<Self::DecodeStream>, Status> {
        let unread = async move {
            let _chunks = chunks;
            std::future::pending().await
        };
        Ok(Response::new(stream::once(unread).boxed()))
    }

    async fn encode(&self, _: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        Ok(Response::new(EncodeResponse::default()))
    }
}

#[tokio::test]
async fn streams_that_nobody_reads_leave_the_connection_to_the_others() -> Result<(), Status> {
    let routes = Routes::new(DecoderServiceServer::new(Deaf));
    let running = start_routes(routes, &[decoder_service_server::SERVICE_NAME], Config::default()).await;
    let mut client = DecoderServiceClient::new(running.channel());
    let chunk = TokenChunk { tokens: vec![u32::MAX; 10_000], ..TokenChunk::default() };
    let chunk = DecodeRequest { message: Some(Message::Chunk(chunk)) };
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        // 900 kB, all of which the caller sends, or has ready to be sent, before the next call.
        let (sent, all_sent) = tokio::sync::oneshot::channel::<()>();
        let end = stream::once(async move {
            drop(sent);
            std::future::pending().await
        });
        let chunks = stream::iter(vec![chunk.clone(); 18]).chain(end);
        unread.push(within(client.decode(chunks)).await?);
        assert!(within(all_sent).await.is_err());
    }
    let picture = Picture { width: 256, height: 256, rgb8: vec![0; 256 * 256 * 3].into() };
    within(client.encode(EncodeRequest { picture: Some(picture), ..EncodeRequest::default() })).await?;
    drop(unread);
    running.stop.cancel();
    Ok(())
}
