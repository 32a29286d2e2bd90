//! The service over sockets.

use std::time::Duration;

use easel_proto::v1::{GivenTokens, PackageRef, SampleRequest, SampleResponse, sample_response::Event};
use easel_sampler::{Error, model::Geometry};
use easel_server::Readiness;
use tokio::{net::TcpListener, sync::oneshot};
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use crate::{
    fake::POISON,
    harness::{Server, blocking, check, check_of, config, connect, guided, message, receive, request, shared, status},
};

/// The next event.
async fn next(stream: &mut Streaming<SampleResponse>) -> Event {
    stream.message().await.unwrap().unwrap().event.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_tokens_under_concurrent_load() {
    let server = Server::start(&["--slots", "16"]).await;
    let calls: Vec<_> = (0..24u64)
        .map(|i| {
            let seeds: Vec<u64> = (i..i + 1 + i % 16).collect();
            let caption = (i % 12) as u32;
            let request = shared(if i % 2 == 0 { request(caption, &seeds) } else { guided(caption, &seeds) });
            let (mut client, message) = (server.client.clone(), message(&request));
            tokio::spawn(async move {
                let drawn = receive(client.sample(message).await.unwrap().into_inner()).await.unwrap();
                (request, drawn)
            })
        })
        .collect();
    for call in calls {
        let (request, drawn) = call.await.unwrap();
        check(&request, &drawn);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_with_given_tokens_in_the_chunks() {
    let server = Server::start(&["--slots", "2"]).await;
    let mut one = request(3, &[5]);
    one.given = vec![(0, 4), (1, 5), (9, 6)];
    let prefix = GivenTokens { positions: Vec::new(), tokens: vec![4, 5] };
    let scattered = GivenTokens { positions: vec![0, 1, 9], tokens: vec![4, 5, 6] };
    let mut stream = server.sample(SampleRequest { given: Some(scattered), ..message(&one) }).await.unwrap();
    let Event::Admitted(admitted) = next(&mut stream).await else { panic!("expected an admission") };
    assert_eq!((admitted.slots, admitted.slots_total, admitted.prefill_tokens), (1, 2, 6));
    check(&one, &receive(stream).await.unwrap());
    one.given.pop();
    let stream = server.sample(SampleRequest { given: Some(prefix), ..message(&one) }).await.unwrap();
    check(&one, &receive(stream).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_are_the_package_s() {
    let server = Server::start(&["--slots", "2"]).await;
    let mut one = request(3, &[5]);
    (one.parameters.temperature, one.parameters.top_k, one.parameters.top_p) = (1.0, 8, 0.9);
    let bare = SampleRequest { parameters: None, chunk_size: 0, ..message(&one) };
    let mut stream = server.sample(bare.clone()).await.unwrap();
    next(&mut stream).await;
    let Event::Chunk(chunk) = next(&mut stream).await else { panic!("expected a chunk") };
    assert_eq!(chunk.tokens.len(), 4, "one row of the grid");
    check(&one, &receive(server.sample(bare).await.unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_resource_exhausted_with_retry_info() {
    let server = Server::start(&["--slots", "2", "--queue", "1"]).await;
    server.control.hold();
    let one = request(1, &[1, 2]);
    let mut running = server.sample(message(&one)).await.unwrap();
    next(&mut running).await;
    let waiting = server.sample(message(&one)).await.unwrap();
    let refused = server.sample(message(&one)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let retry = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert!(retry >= Duration::from_secs(1));
    server.control.release();
    for stream in [running, waiting] {
        receive(stream).await.unwrap();
    }
    check(&one, &receive(server.sample(message(&one)).await.unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_calls_on_a_small_queue_all_end() {
    let server = Server::start(&["--slots", "4", "--queue", "8"]).await;
    let calls: Vec<_> = (0..64u64)
        .map(|i| {
            let request = shared(request((i % 12) as u32, &[i, i + 1]));
            let (mut client, message) = (server.client.clone(), message(&request));
            tokio::spawn(async move {
                match client.sample(message).await {
                    Ok(response) => check(&request, &receive(response.into_inner()).await.unwrap()),
                    Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_disconnects_frees_its_slots_within_one_step() {
    // 64 × 64 cells: far from its end when the client leaves.
    let server = Server::with_grid(&["--slots", "4"], 64, 64).await;
    let geometry = Geometry { text_length: 4, cells: 4096, codebook: 32 };
    let control = server.control.clone();
    control.hold();
    let mut leaves = connect(server.address).await;
    let leaving = leaves.sample(message(&request(1, &[1, 2, 3, 4]))).await.unwrap();
    let one = request(2, &[5, 6, 7, 8]);
    let mut waits = server.sample(message(&one)).await.unwrap();
    control.allow(20);
    let blocked = control.clone();
    blocking(move || blocked.wait_blocked()).await;
    assert!(matches!(next(&mut waits).await, Event::Queued(_)));
    drop((leaving, leaves));
    // The server learns of it while a step is under way; the next boundary gives the rows away.
    let step = tokio::spawn(async move {
        loop {
            control.allow(1);
            let blocked = control.clone();
            blocking(move || blocked.wait_blocked()).await;
            if control.steps().iter().flatten().any(|row| row.token == 2 && row.position == 0)
                || control.steps().len() > 4000
            {
                return control;
            }
        }
    });
    assert!(matches!(next(&mut waits).await, Event::Admitted(_)));
    let control = step.await.unwrap();
    assert!(control.steps().len() < 4000, "the request went on");
    control.release();
    check_of(geometry, &one, &receive(waits).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_the_stream_with_deadline_exceeded() {
    let server = Server::start(&["--slots", "2"]).await;
    server.control.hold();
    let mut call = tonic::Request::new(message(&request(1, &[1, 2])));
    call.set_timeout(Duration::from_millis(200));
    let mut stream = server.client.clone().sample(call).await.unwrap().into_inner();
    next(&mut stream).await;
    // Queued behind it, with a deadline of its own.
    let mut queued = tonic::Request::new(message(&request(1, &[1, 2])));
    queued.set_timeout(Duration::from_millis(100));
    let queued = server.client.clone().sample(queued).await.unwrap().into_inner();
    for stream in [queued, stream] {
        assert_eq!(receive(stream).await.err().map(|status| status.code()), Some(Code::DeadlineExceeded));
    }
    server.control.release();
    let one = request(2, &[3, 4]);
    check(&one, &receive(server.sample(message(&one)).await.unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_slows_nobody_else_and_is_cut_in_the_end() {
    let server = Server::with_grid(&["--slots", "8", "--stall-timeout-seconds", "3"], 128, 96).await;
    let geometry = Geometry { text_length: 4, cells: 128 * 96, codebook: 32 };
    let endpoint = easel_server::channel::endpoint(format!("http://{}", server.address)).unwrap();
    let narrow = endpoint.initial_stream_window_size(1024).connect().await.unwrap();
    let mut slow = easel_proto::v1::sampler_service_client::SamplerServiceClient::new(narrow);
    // Its response is larger than what the transport buffers.
    let mut one = request(1, &[1, 2, 3, 4]);
    one.chunk_size = 1;
    let unread = slow.sample(message(&one)).await.unwrap().into_inner();
    let other = request(2, &[3]);
    let drawn = receive(server.sample(message(&other)).await.unwrap()).await.unwrap();
    assert_eq!(status(server.address, |_| true).await.slots_in_use, 4);
    check_of(geometry, &other, &drawn);
    status(server.address, |status| status.slots_in_use == 0).await;
    assert_eq!(receive(unread).await.err().map(|status| status.code()), Some(Code::Aborted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_names_its_field_and_the_service_goes_on() {
    let server = Server::start(&["--slots", "2", "--max-candidates", "5"]).await;
    let good = request(1, &[1, 2]);
    let mut nan = message(&good);
    nan.parameters.as_mut().unwrap().temperature = Some(f32::NAN);
    let cases = [
        (SampleRequest { candidates: Vec::new(), ..message(&good) }, "candidates"),
        (message(&request(1, &[0; 6])), "candidates"),
        (SampleRequest { text_tokens: vec![1, 99], ..message(&good) }, "text_tokens[1]"),
        (nan, "parameters.temperature"),
        (SampleRequest { chunk_size: 17, ..message(&good) }, "chunk_size"),
    ];
    for (message, field) in cases {
        let status = server.sample(message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.iter().map(|v| &*v.field).collect::<Vec<_>>(), [field]);
        assert!(violations[0].description.contains("found"), "{}", violations[0].description);
    }
    check(&good, &receive(server.sample(message(&good)).await.unwrap()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_are_found_by_name_and_digest() {
    let server = Server::start(&["--slots", "2"]).await;
    let good = request(1, &[1]);
    let digest = "d1".repeat(32);
    for (name, digest, code) in [
        ("", "", Code::Ok),
        ("shapes", "", Code::Ok),
        ("shapes", &*digest, Code::Ok),
        ("", &*digest, Code::Ok),
        ("scenes", "", Code::NotFound),
        (&*"x".repeat(1 << 20), "", Code::NotFound),
        ("shapes", "d2", Code::FailedPrecondition),
        ("shapes", &*"x".repeat(1 << 20), Code::FailedPrecondition),
    ] {
        let package = Some(PackageRef { name: name.to_owned(), digest: digest.to_owned() });
        let found = server.sample(SampleRequest { package, ..message(&good) }).await;
        assert_eq!(found.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok), code, "{name:.9} {digest:.9}");
        if let Ok(stream) = found {
            receive(stream).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_model_is_internal_and_tells_nothing() {
    let server = Server::start(&["--slots", "4"]).await;
    server.control.hold();
    let good = request(1, &[1, 2]);
    let fine = server.sample(message(&good)).await.unwrap();
    let poisoned = server.sample(message(&request(POISON, &[1]))).await.unwrap();
    server.control.release();
    let status = receive(poisoned).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    check(&good, &receive(fine).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_engine_is_not_ready_and_says_why() {
    let server = Server::start(&["--slots", "2"]).await;
    server.control.fail(|_| Some(easel_sampler::model::Error::Failed("the card is gone".into())));
    let stream = server.sample(message(&request(1, &[1]))).await.unwrap();
    assert_eq!(receive(stream).await.unwrap_err().code(), Code::Internal);
    let status = status(server.address, |status| !status.ready).await;
    assert!(status.detail.contains("the card is gone"), "{}", status.detail);
    let refused = server.sample(message(&request(1, &[1]))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_while_the_model_loads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, wait) = oneshot::channel::<()>();
    let load = move || {
        drop(wait.blocking_recv());
        Err(Error::Loading(std::io::Error::other("the disk is gone")))
    };
    let readiness = Readiness::new();
    let serving = easel_sampler::serve_with(listener, config(&[]), readiness.clone(), load, std::future::pending());
    let task = tokio::spawn(serving);
    let refused = connect(address).await.sample(message(&request(1, &[1]))).await.unwrap_err();
    assert_eq!((refused.code(), readiness.is_ready()), (Code::Unavailable, false));
    go.send(()).unwrap();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the packages could not be loaded: the disk is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_finishes_what_runs_and_what_waits() {
    let server = Server::start(&["--slots", "2"]).await;
    server.control.hold();
    let requests = [request(1, &[1, 2]), request(2, &[3, 4])];
    let mut running = server.sample(message(&requests[0])).await.unwrap();
    next(&mut running).await;
    let waiting = server.sample(message(&requests[1])).await.unwrap();
    let (control, mut client) = (server.control.clone(), server.client.clone());
    let task = server.stop();
    while client.sample(message(&requests[0])).await.map_or_else(|status| status.code(), |_| Code::Ok)
        != Code::Unavailable
    {}
    control.release();
    for (request, stream) in requests.iter().zip([running, waiting]) {
        check(request, &receive(stream).await.unwrap());
    }
    task.await.unwrap().unwrap();
}

#[test]
fn options_that_cannot_work_are_refused() {
    for options in [
        ["--slots", "0"],
        ["--queue", "0"],
        ["--max-candidates", "0"],
        ["--slots", "5000"],
        ["--stall-timeout-seconds", "0"],
        ["--stall-timeout-seconds", "18446744073709551615"],
    ] {
        let error = config(&options).validate().unwrap_err().to_string();
        assert!(error.starts_with(options[0]), "{error}");
    }
    config(&[]).validate().unwrap();
}
