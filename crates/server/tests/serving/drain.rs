//! The end of a service: running calls finish, new ones are refused, late ones are cut.

use easel_server::cancel::CancellationToken;
use easel_server::{Config, State};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Script, request, start, within};

#[tokio::test]
async fn running_calls_finish_and_new_ones_are_refused() -> Result<(), Status> {
    let gate = CancellationToken::new();
    let running = start(Script::Gate(gate.clone()), Config::default()).await;
    running.readiness.ready();
    let mut client = running.client();
    let mut events = client.sample(request()).await?.into_inner();
    assert!(within(events.message()).await?.is_some());

    running.stop.cancel();
    let mut states = running.readiness.subscribe();
    assert!(within(states.wait_for(|state| *state == State::Draining)).await.is_ok());
    running.readiness.ready();
    assert!(!running.readiness.is_ready());

    // Over the same connection and over a new one.
    for mut client in [client.clone(), running.client()] {
        let refusal = within(client.sample(request())).await.expect_err("it drains");
        assert_eq!((refusal.code(), refusal.message()), (Code::Unavailable, "draining"));
        let retry = refusal.get_details_retry_info().and_then(|retry| retry.retry_delay);
        assert!(retry.is_some());
    }

    assert!(!running.served.is_finished());
    gate.cancel();
    assert!(within(events.message()).await?.is_some());
    assert!(within(events.message()).await?.is_none());
    // `client` is alive: its idle connection is no reason to stay.
    running.end().await;
    drop(client);
    Ok(())
}

#[tokio::test]
async fn a_call_without_end_is_cut_after_the_grace() -> Result<(), Status> {
    let config = Config { drain_grace_seconds: 0, ..Config::default() };
    let running = start(Script::Hang, config).await;
    let mut events = running.client().sample(request()).await?.into_inner();
    assert!(within(events.message()).await?.is_some());
    let dropped = running.dropped.clone();
    running.end().await;
    assert!(dropped.is_cancelled());
    let end = within(events.message()).await;
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unavailable));
    Ok(())
}

#[tokio::test]
async fn a_call_without_head_is_cut_too() {
    let config = Config { drain_grace_seconds: 0, ..Config::default() };
    let running = start(Script::HangBeforeHead, config).await;
    let mut client = running.client();
    let call = tokio::spawn(async move { client.sample(request()).await.map(drop) });
    within(running.entered.cancelled()).await;
    let dropped = running.dropped.clone();
    running.end().await;
    assert!(dropped.is_cancelled());
    let end = within(call).await.expect("no panic");
    assert_eq!(end.map_err(|status| status.code()), Err(Code::Unavailable));
}

#[tokio::test]
async fn an_idle_service_ends_at_once() {
    let running = start(Script::Brief, Config::default()).await;
    let begun = std::time::Instant::now();
    running.end().await;
    assert!(begun.elapsed() < Config::default().drain_grace());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() -> Result<(), Status> {
    let config = Config { drain_grace_seconds: 0, ..Config::default() };
    let running = start(Script::Flood, config).await;
    let events = running.client().sample(request()).await?.into_inner();
    within(running.entered.cancelled()).await;
    let dropped = running.dropped.clone();
    running.end().await;
    within(dropped.cancelled()).await;
    drop(events);
    Ok(())
}
