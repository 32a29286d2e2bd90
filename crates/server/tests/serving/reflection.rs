//! Reflection lists what is served, in both of its versions: tools ask for either.

use easel_server::Config;
use tonic::Status;
use tonic_reflection::pb;

use crate::support::{Script, start, within};

macro_rules! lists_services {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() -> Result<(), Status> {
            use pb::$version::server_reflection_client::ServerReflectionClient;
            use pb::$version::server_reflection_request::MessageRequest;
            use pb::$version::server_reflection_response::MessageResponse;

            let running = start(Script::Brief, Config::default()).await;
            let mut client = ServerReflectionClient::new(running.channel());
            let request = pb::$version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let requests = tokio_stream::once(request);
            let mut answers = client.server_reflection_info(requests).await?.into_inner();
            let answer = within(answers.message()).await?.and_then(|answer| answer.message_response);
            let Some(MessageResponse::ListServicesResponse(list)) = answer else {
                panic!("no list: {answer:?}");
            };
            let names = list.service.iter().map(|service| &*service.name).collect::<Vec<_>>();
            for name in ["easel.v1.SamplerService", "easel.v1.StatusService", "grpc.health.v1.Health"] {
                assert!(names.contains(&name), "{name} is not in {names:?}");
            }
            assert!(!names.contains(&"easel.v1.DecoderService"), "{names:?}");
            running.end().await;
            Ok(())
        }
    };
}

lists_services!(version_1, v1);
lists_services!(version_1_alpha, v1alpha);
