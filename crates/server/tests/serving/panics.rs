//! A panic ends its call and nothing else.

use easel_server::Config;
use tonic::{Code, Status};

use crate::support::{Script, request, start, within};

#[tokio::test]
async fn a_handler_panics() {
    let running = start(Script::Panic, Config::default()).await;
    let mut client = running.client();
    for _ in 0..2 {
        let end = within(client.sample(request())).await.map(drop);
        let end = end.map_err(|status| (status.code(), status.message().to_owned()));
        assert_eq!(end, Err((Code::Internal, "internal error".to_owned())));
    }
    running.end().await;
}

#[tokio::test]
async fn a_stream_panics() -> Result<(), Status> {
    let running = start(Script::PanicLater, Config::default()).await;
    let mut client = running.client();
    for _ in 0..2 {
        let mut events = client.sample(request()).await?.into_inner();
        assert!(within(events.message()).await?.is_some());
        let end = within(events.message()).await;
        assert_eq!(end.map_err(|status| status.code()), Err(Code::Internal));
    }
    within(running.dropped.cancelled()).await;
    running.end().await;
    Ok(())
}
