//! What goes wrong in the engine: callers that leave, are late or slow, and a model that fails.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use easel_sampler::{
    engine::{Engine, Event, Events, Failure, Options, Refusal, Request},
    model::{Error, Geometry, Row},
    slots::Pool,
};

use crate::{
    fake::{Fake, POISON},
    harness::{GEOMETRY, check, engine, engine_of, read, request},
};

fn rows(rows: usize) -> Options {
    Options { rows, ..Options::default() }
}

/// Reads to the failure that must come.
fn failure(events: &mut Events) -> Failure {
    loop {
        if let Err(failure) = events.blocking_next().expect("a failure before the end") {
            assert!(events.blocking_next().is_none());
            return failure;
        }
    }
}

/// Reads to the admission.
fn wait_admitted(events: &mut Events) {
    while !matches!(events.blocking_next().unwrap().unwrap(), Event::Admitted { .. }) {}
}

#[test]
fn a_caller_that_leaves_frees_its_rows_within_one_step() {
    let (engine, control) = engine(rows(4));
    control.hold();
    let leaves = engine.submit(request(1, &[1, 2, 3, 4, 5, 6])).unwrap();
    control.wait_blocked();
    let next = request(2, &[7, 8, 9, 10]);
    let mut events = engine.submit(next.clone()).unwrap();
    control.allow(6);
    control.wait_blocked();
    drop(leaves);
    // The step that is under way, and no other.
    control.allow(1);
    wait_admitted(&mut events);
    control.wait_blocked();
    assert_eq!((engine.load().rows_used, control.steps().len()), (4, 7));
    control.release();
    check(&next, &read(&mut events));
}

#[test]
fn a_caller_that_leaves_the_queue_is_forgotten() {
    let (engine, control) = engine(rows(1));
    control.hold();
    let mut running = engine.submit(request(1, &[1])).unwrap();
    control.wait_blocked();
    let leaves = engine.submit(request(2, &[1])).unwrap();
    let mut last = engine.submit(request(3, &[1])).unwrap();
    control.allow(1);
    assert!(matches!(last.blocking_next(), Some(Ok(Event::Queued { position: 1, .. }))));
    drop(leaves);
    control.allow(1);
    assert!(matches!(last.blocking_next(), Some(Ok(Event::Queued { position: 0, .. }))));
    control.release();
    read(&mut running);
    read(&mut last);
    assert!(!control.steps().iter().flatten().any(|row| row.position == 0 && row.token == 2));
}

#[test]
fn a_deadline_ends_a_running_request() {
    let geometry = Geometry { cells: 1 << 20, ..GEOMETRY };
    let (engine, _) = engine_of(geometry, rows(1));
    let deadline = Some(Instant::now() + Duration::from_millis(30));
    let mut events = engine.submit(Request { deadline, ..request(1, &[1]) }).unwrap();
    assert!(matches!(failure(&mut events), Failure::Deadline));
    let mut next = engine.submit(request(2, &[1])).unwrap();
    wait_admitted(&mut next);
}

#[test]
fn a_deadline_ends_a_request_in_the_queue_and_a_paused_one() {
    let (engine, _) = engine(Options { events: 1, ..rows(1) });
    let soon = |millis| Some(Instant::now() + Duration::from_millis(millis));
    // Unread, so it is paused and keeps its row.
    let mut paused = engine.submit(Request { chunk_size: 1, deadline: soon(200), ..request(1, &[1]) }).unwrap();
    let mut waiting = engine.submit(Request { deadline: soon(20), ..request(2, &[1]) }).unwrap();
    let mut past = engine.submit(Request { deadline: soon(0), ..request(3, &[1]) }).unwrap();
    let mut patient = engine.submit(request(4, &[1])).unwrap();
    assert!(matches!(failure(&mut past), Failure::Deadline));
    assert!(matches!(failure(&mut waiting), Failure::Deadline));
    check(&request(4, &[1]), &read(&mut patient));
    assert!(matches!(failure(&mut paused), Failure::Deadline));
}

#[test]
fn a_slow_reader_pauses_itself_alone() {
    let (engine, control) = engine(Options { events: 3, ..rows(4) });
    let slow = Request { chunk_size: 1, ..request(1, &[1, 2]) };
    let quick = Request { chunk_size: 1, ..request(2, &[3, 4]) };
    let mut unread = engine.submit(slow.clone()).unwrap();
    for _ in 0..3 {
        check(&quick, &read(&mut engine.submit(quick.clone()).unwrap()));
    }
    // Its rows are still its own, and took few steps.
    assert_eq!(engine.load().rows_used, 2);
    let slots: Vec<usize> =
        control.steps().iter().flatten().filter(|r| r.token == 1 && r.position == 0).map(|r| r.slot).collect();
    assert_eq!(slots.len(), 1, "its prefix was computed once");
    check(&slow, &read(&mut unread));
    engine.stop();
    assert_eq!(engine.load().rows_used, 0);
}

#[test]
fn a_reader_that_has_stopped_is_cut() {
    let stall_timeout = Duration::from_millis(50);
    let (engine, _) = engine(Options { events: 2, stall_timeout, ..rows(1) });
    let mut stalled = engine.submit(Request { chunk_size: 1, ..request(1, &[1]) }).unwrap();
    let next = request(2, &[2]);
    check(&next, &read(&mut engine.submit(next.clone()).unwrap()));
    // What was sent before is still there.
    wait_admitted(&mut stalled);
    assert!(matches!(stalled.blocking_next(), Some(Ok(Event::Chunk { start: 0, .. }))));
    assert!(matches!(failure(&mut stalled), Failure::Stalled(after) if after == stall_timeout));
}

/// A fault of every step with this caption.
fn on_caption(caption: u32, error: fn() -> Error) -> impl Fn(&[Row]) -> Option<Error> + Send {
    move |rows| rows.iter().any(|row| row.position == 0 && row.token == caption).then(error)
}

#[test]
fn refused_rows_fail_their_request_alone() {
    let (engine, control) = engine(rows(4));
    control.fail(on_caption(7, || Error::Refused("no such token".into())));
    control.hold();
    let good = [request(1, &[1, 2]), request(2, &[3])];
    let mut first = engine.submit(good[0].clone()).unwrap();
    control.wait_blocked();
    let mut bad = engine.submit(request(7, &[1])).unwrap();
    let mut second = engine.submit(good[1].clone()).unwrap();
    control.release();
    assert!(matches!(failure(&mut bad), Failure::Model(_)));
    check(&good[0], &read(&mut first));
    check(&good[1], &read(&mut second));
}

#[test]
fn a_failed_or_panicking_step_fails_those_in_it_and_the_rest_goes_on() {
    for error in [|| Error::Failed("out of order".into()), || Error::Panicked("on purpose".into())] {
        let (engine, control) = engine(rows(2));
        control.fail(on_caption(7, error));
        control.hold();
        let mut beside = engine.submit(request(1, &[1])).unwrap();
        control.wait_blocked();
        let mut bad = engine.submit(request(7, &[1])).unwrap();
        let behind = request(2, &[3, 4]);
        let mut waiting = engine.submit(behind.clone()).unwrap();
        control.release();
        assert!(matches!(failure(&mut bad), Failure::Model(_)));
        assert!(matches!(failure(&mut beside), Failure::Model(_)));
        check(&behind, &read(&mut waiting));
    }
}

#[test]
fn logits_that_are_no_numbers_fail_their_request_alone() {
    let (engine, _) = engine(rows(4));
    let good = request(1, &[1, 2]);
    let mut events = engine.submit(good.clone()).unwrap();
    let mut bad = engine.submit(request(POISON, &[1])).unwrap();
    let Failure::Model(error) = failure(&mut bad) else { panic!("expected a failure of the model") };
    assert!(matches!(*error, Error::Logits(_)), "{error}");
    check(&good, &read(&mut events));
}

#[test]
fn a_model_that_stays_broken_ends_the_engine_with_the_reason() {
    let fake = Fake::new(GEOMETRY, Pool::sequences(1));
    let control = fake.control.clone();
    let (said, died) = mpsc::channel();
    let report = move |reason: &str| said.send(reason.to_owned()).unwrap();
    let engine = Engine::start(fake, rows(1), vec![16, 17, 18, 19], report).unwrap();
    control.fail(|_| Some(Error::Failed("the card is gone".into())));
    let mut running = engine.submit(request(1, &[1])).unwrap();
    assert!(matches!(failure(&mut running), Failure::Model(_)));
    let reason = died.recv().unwrap();
    assert_eq!(reason, "the model failed: the card is gone");
    assert_eq!(engine.submit(request(1, &[1])).unwrap_err(), Refusal::Dead(reason));
}

#[test]
fn a_model_that_does_not_work_is_not_started() {
    let start = |fake: Fake, rows_wanted| Engine::start(fake, rows(rows_wanted), vec![16; 4], |_| ()).err();
    let broken = Fake::new(GEOMETRY, 4);
    broken.control.fail(|_| Some(Error::Failed("no".into())));
    assert!(start(broken, 2).is_some());
    assert!(start(Fake::new(GEOMETRY, 3), 2).is_some(), "too few sequences");
    assert!(start(Fake::new(GEOMETRY, 4), 2).is_none());
}
