//! The engine without gRPC: order, sharing, equality with the book.

use std::time::Duration;

use easel_sampler::{
    engine::{Event, Events, Options, Refusal, Request, Statistics},
    logits::Parameters,
    model::Row,
};

use crate::harness::{PLAIN, check, engine, guided, read, request};

fn rows(rows: usize) -> Options {
    Options { rows, ..Options::default() }
}

/// The next event, which must be an admission: rows, rows in all, prefilled tokens.
fn admitted(events: &mut Events) -> (u32, u32, u32) {
    match events.blocking_next().unwrap().unwrap() {
        Event::Admitted { rows, rows_total, prefill_tokens, .. } => (rows, rows_total, prefill_tokens),
        event => panic!("expected an admission, found {event:?}"),
    }
}

/// The next event, which must be a position in the queue.
fn queued(events: &mut Events) -> u32 {
    match events.blocking_next().unwrap().unwrap() {
        Event::Queued { position, .. } => position,
        event => panic!("expected a position in the queue, found {event:?}"),
    }
}

#[test]
fn a_candidate_is_the_same_alone_and_among_others() {
    let variants = [
        PLAIN,
        Parameters { temperature: 0.0, ..PLAIN },
        Parameters { temperature: 1.5, top_k: 0, top_p: 1.0, ..PLAIN },
        Parameters { top_k: 3, top_p: 0.5, ..PLAIN },
    ];
    for parameters in variants {
        let (engine, _) = engine(rows(16));
        let alone = Request { parameters, ..request(3, &[77]) };
        let seeds: Vec<u64> = (70..86).collect();
        let crowd = Request { parameters, ..request(3, &seeds) };
        let lone = read(&mut engine.submit(alone.clone()).unwrap());
        let many = read(&mut engine.submit(crowd.clone()).unwrap());
        assert_eq!(lone[&0].tokens, many[&7].tokens);
        check(&alone, &lone);
        check(&crowd, &many);
    }
}

#[test]
fn likelihoods_are_the_same_to_the_bit_alone_and_among_others_with_pauses() {
    let (engine, control) = engine(Options { events: 2, ..rows(16) });
    let likelihoods = |statistics: Option<Statistics>| {
        let statistics = statistics.unwrap();
        [Some(statistics.log_likelihood), statistics.unconditional_log_likelihood].map(|nats| nats.map(f64::to_bits))
    };
    for make in [request, guided] {
        let alone = read(&mut engine.submit(make(3, &[77])).unwrap())[&0].statistics;
        control.hold();
        // Nobody reads while it is drawn: it pauses when its few events wait, and goes on while the others are drawn.
        let mut paused = engine.submit(make(3, &[76, 77])).unwrap();
        let mut others = [guided(1, &[1, 2, 3]), request(3, &[77, 78])].map(|other| engine.submit(other).unwrap());
        control.release();
        others.iter_mut().for_each(|events| drop(read(events)));
        assert_eq!(likelihoods(read(&mut paused)[&1].statistics), likelihoods(alone));
        assert_eq!(alone.unwrap().unconditional_log_likelihood.is_some(), make(3, &[]).unconditional.is_some());
    }
}

#[test]
fn requests_that_run_together_do_not_touch_each_other() {
    let (engine, control) = engine(rows(12));
    control.hold();
    let requests: Vec<Request> = (0..20)
        .map(|i| {
            let seeds: Vec<u64> = (0..1 + i % 5).map(|j| (i * 10 + j).into()).collect();
            let given = (0..i % 4).map(|j| (j * (1 + i % 3), (i + j) % 32)).collect();
            let base = if i % 3 == 0 { guided(i % 12, &seeds) } else { request(i % 12, &seeds) };
            Request { given, chunk_size: 1 + i as usize % 16, ..base }
        })
        .collect();
    let mut events: Vec<Events> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    control.release();
    for (request, events) in requests.iter().zip(&mut events) {
        check(request, &read(events));
    }
    assert!(control.steps().iter().any(|rows| rows.iter().filter(|row| row.logits).count() == 12), "rows stayed empty");
    assert_eq!(engine.load().rows_used, 0);
}

#[test]
fn guesses_change_no_token_and_take_no_more_rows_than_they_may() {
    let (engine, control) = engine(Options { guess_rows: 16, step_rows: 24, ..rows(12) });
    for together in [1, 7] {
        control.reset();
        let requests = (0..14).map(|i| {
            let seeds: Vec<u64> = (0..1 + i % 3).map(|j| (i * 10 + j).into()).collect();
            let given = (0..i % 4).map(|j| (j * (1 + i % 3), (i + j) % 32)).collect();
            let base = if i % 3 == 0 { guided(i % 12, &seeds) } else { request(i % 12, &seeds) };
            Request { given, ..base }
        });
        for requests in requests.collect::<Vec<_>>().chunks(together) {
            let submit = |request: &Request| engine.submit(request.clone()).unwrap();
            let mut events: Vec<Events> = requests.iter().map(submit).collect();
            for (request, events) in requests.iter().zip(&mut events) {
                check(request, &read(events));
            }
        }
        let rows: Vec<usize> =
            control.steps().iter().map(|rows| rows.iter().filter(|row| row.position >= 4).count()).collect();
        assert!(rows.contains(&16), "{rows:?}");
    }
}

#[test]
fn the_prefix_is_computed_once_for_all_candidates() {
    let (engine, control) = engine(rows(8));
    let one = request(5, &[1, 2, 3, 4, 5, 6, 7, 8]);
    let mut events = engine.submit(one.clone()).unwrap();
    assert_eq!(admitted(&mut events), (8, 8, 4));
    check(&one, &read(&mut events));
    let steps = control.steps();
    // The caption in one step, and a step for each image token but the last, whose successor nobody wants.
    assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [vec![4], vec![8; 15]].concat());
    let texts = steps.iter().flatten().filter(|row| row.position < 4).count();
    assert_eq!(texts, 4);
}

#[test]
fn a_prefix_that_another_request_computed_is_read_again() {
    let (engine, control) = engine(rows(4));
    let given = vec![(0, 9), (1, 8)];
    // What is computed: the caption; the empty one of guidance; another caption; nothing; both with the given tokens, which are of the prefix.
    let requests = [
        (request(5, &[1]), 4),
        (guided(5, &[1, 2]), 4),
        (guided(6, &[3]), 4),
        (guided(5, &[4, 5, 6]), 0),
        (Request { given, ..guided(5, &[1]) }, 12),
    ];
    for (one, computed) in requests {
        control.reset();
        check(&one, &read(&mut engine.submit(one.clone()).unwrap()));
        let begins = |rows: &Vec<Row>| rows.iter().any(|row| row.position == 0);
        assert_eq!(
            control.steps().iter().filter(|rows| begins(rows)).map(Vec::len).sum::<usize>(),
            computed,
            "{one:?}"
        );
    }
    // Of the four places none is free: what nobody reads gives way.
    for caption in 7..12 {
        let one = guided(caption, &[1]);
        check(&one, &read(&mut engine.submit(one.clone()).unwrap()));
    }
}

#[test]
fn guidance_takes_two_rows_and_computes_both_prefixes_in_one_step() {
    let (engine, control) = engine(rows(8));
    let one = guided(5, &[1, 2, 3]);
    let mut events = engine.submit(one.clone()).unwrap();
    assert_eq!(admitted(&mut events), (6, 8, 4));
    let drawn = read(&mut events);
    check(&one, &drawn);
    assert_eq!(control.steps().iter().map(Vec::len).collect::<Vec<_>>(), [vec![8], vec![6; 15]].concat());
    let statistics = drawn[&0].statistics.unwrap();
    assert_eq!((statistics.steps, statistics.mean_batch_rows), (15, 6.0));
    assert!(statistics.log_likelihood < 0.0);
}

#[test]
fn more_candidates_than_rows_are_drawn_in_turns() {
    let (engine, control) = engine(rows(4));
    let seeds: Vec<u64> = (0..11).collect();
    let one = request(5, &seeds);
    let mut events = engine.submit(one.clone()).unwrap();
    assert_eq!(admitted(&mut events), (4, 4, 4));
    check(&one, &read(&mut events));
    assert_eq!(control.steps().len(), 1 + 3 * 15);
    let both = guided(6, &seeds);
    check(&both, &read(&mut engine.submit(both.clone()).unwrap()));
}

#[test]
fn first_come_first_served_and_nobody_overtakes() {
    let (engine, control) = engine(rows(4));
    control.hold();
    let requests = [request(1, &[1, 2, 3]), guided(2, &[4]), request(3, &[5]), request(4, &[6])];
    let mut events: Vec<Events> = Vec::new();
    for request in &requests {
        events.push(engine.submit(request.clone()).unwrap());
        control.wait_blocked();
    }
    control.allow(1);
    control.wait_blocked();
    assert_eq!(admitted(&mut events[0]).0, 3);
    // One row is free: too few for the second, and the third waits behind it.
    assert_eq!([1, 2, 3].map(|i| queued(&mut events[i])), [0, 1, 2]);
    assert_eq!((engine.load().queued, engine.load().rows_used), (3, 3));
    control.allow(15);
    assert_eq!([1, 2, 3].map(|i| admitted(&mut events[i]).0), [2, 1, 1]);
    control.release();
    for (request, events) in requests.iter().zip(&mut events) {
        check(request, &read(events));
    }
}

#[test]
fn a_long_queue_is_served_in_order_with_full_rows_and_nobody_starves() {
    let (engine, control) = engine(rows(6));
    control.hold();
    let requests: Vec<Request> = (0..60)
        .map(|i| {
            // The caption's first two tokens tell the request.
            let seeds: Vec<u64> = (0..[1, 9, 2, 1, 4][i as usize % 5]).collect();
            let base = if i % 4 == 0 { guided(0, &seeds) } else { request(0, &seeds) };
            Request { text: vec![i / 10, 1 + i % 10, 18, 19], ..base }
        })
        .collect();
    let mut events: Vec<Events> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    control.release();
    for (request, events) in requests.iter().zip(&mut events) {
        check(request, &read(events));
    }
    let steps = control.steps();
    let texts = |rows: &[Row]| -> Vec<u32> {
        let at = |position: u32| rows.iter().filter(move |row| row.position == position).map(|row| row.token);
        at(0).zip(at(1)).filter(|(first, _)| *first < 6).map(|(first, second)| first * 10 + second - 1).collect()
    };
    assert_eq!(steps.iter().flat_map(|rows| texts(rows)).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>());
    // Until the last has begun, a step leaves at most the one row empty that a guided candidate cannot use, and those whose prefix it computes.
    let last = steps.iter().rposition(|rows| !texts(rows).is_empty()).unwrap();
    for rows in &steps[..last] {
        let (drawn, prefixes) = (rows.iter().filter(|row| row.position >= 4).count(), texts(rows).len());
        assert!(drawn >= 5 || prefixes > 0, "{drawn} rows are drawn");
    }
}

#[test]
fn those_who_wait_are_told_when_their_place_changes() {
    let (engine, control) = engine(rows(1));
    control.hold();
    let requests = [1, 2, 3].map(|caption| request(caption, &[9]));
    let [mut first, mut second, mut third] = requests.clone().map(|request| engine.submit(request).unwrap());
    control.allow(1);
    assert_eq!((queued(&mut second), queued(&mut third)), (0, 1));
    control.release();
    assert_eq!(queued(&mut third), 0);
    for (request, events) in requests.iter().zip([&mut first, &mut second, &mut third]) {
        check(request, &read(events));
    }
}

#[test]
fn a_request_behind_a_large_one_starts_before_its_last_candidate_ends() {
    let (engine, control) = engine(rows(4));
    control.hold();
    let (large, small) = (request(1, &[1, 2, 3, 4, 5, 6]), request(2, &[7]));
    let (mut a, mut b) = (engine.submit(large.clone()).unwrap(), engine.submit(small.clone()).unwrap());
    control.wait_blocked();
    control.allow(16);
    assert_eq!((admitted(&mut a).0, queued(&mut b)), (4, 1));
    // The last two of the first hold two rows, so that two are free.
    assert_eq!(admitted(&mut b).0, 1);
    control.release();
    check(&large, &read(&mut a));
    check(&small, &read(&mut b));
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let (engine, control) = engine(Options { queue: 2, ..rows(1) });
    control.hold();
    let mut running = engine.submit(request(1, &[1])).unwrap();
    control.wait_blocked();
    let waiting = [2, 3].map(|caption| engine.submit(request(caption, &[1])).unwrap());
    let Refusal::Full { retry_after } = engine.submit(request(4, &[1])).unwrap_err() else {
        panic!("expected a full queue");
    };
    assert!(retry_after >= Duration::from_secs(1));
    assert_eq!((engine.load().queued, engine.load().queue_capacity), (2, 2));
    control.release();
    read(&mut running);
    waiting.into_iter().for_each(|mut events| drop(read(&mut events)));
    read(&mut engine.submit(request(4, &[1])).unwrap());
}

#[test]
fn given_tokens_are_forced_and_the_prefix_of_them_is_prefilled() {
    let (engine, control) = engine(rows(4));
    let given: Vec<(u32, u32)> = vec![(0, 9), (1, 8), (2, 7), (6, 1), (7, 0), (8, 31), (15, 5)];
    for base in [request(2, &[5, 6]), guided(3, &[5, 6])] {
        control.reset();
        let one = Request { given: given.clone(), ..base };
        let mut events = engine.submit(one.clone()).unwrap();
        let sequences = 1 + usize::from(one.unconditional.is_some());
        assert_eq!(admitted(&mut events).2, 4 + 3);
        let drawn = read(&mut events);
        check(&one, &drawn);
        for &(position, token) in &given {
            assert_eq!(drawn[&1].tokens[position as usize], token);
        }
        // The prefix; cells 3 and 4; cell 5 with the given 6 … 8 behind it; then one by one up to 13: what follows 14 is given.
        let steps: Vec<usize> = control.steps().iter().map(|rows| rows.len() / sequences).collect();
        assert_eq!(steps, [vec![7], vec![2, 2, 8], vec![2; 5]].concat());
    }
}

#[test]
fn a_picture_with_one_cell_left_needs_no_step_of_its_own() {
    let (engine, control) = engine(rows(2));
    let given = (0..15).map(|position| (position, position)).collect();
    let one = Request { given, chunk_size: 5, ..request(2, &[1, 2, 3, 4, 5]) };
    let drawn = read(&mut engine.submit(one.clone()).unwrap());
    check(&one, &drawn);
    assert_eq!(control.steps().len(), 1);
    assert_eq!(drawn[&4].statistics.unwrap().steps, 0);
}

#[test]
fn a_long_prefix_is_computed_in_pieces() {
    let (engine, control) = engine(Options { step_rows: 6, ..rows(4) });
    let given = (0..10).map(|position| (position, position)).collect();
    let one = Request { given, ..guided(2, &[1]) };
    check(&one, &read(&mut engine.submit(one.clone()).unwrap()));
    let steps: Vec<usize> = control.steps().iter().map(Vec::len).collect();
    assert_eq!(steps, [vec![6, 6, 6, 6, 4], vec![2; 5]].concat());
}

#[test]
fn chunks_are_of_the_size_asked_for() {
    let (engine, _) = engine(rows(2));
    for chunk_size in [1, 3, 16] {
        let mut events = engine.submit(Request { chunk_size, ..request(1, &[1]) }).unwrap();
        let mut sizes = Vec::new();
        while let Some(event) = events.blocking_next() {
            if let Event::Chunk { tokens, .. } = event.unwrap() {
                sizes.push(tokens.len());
            }
        }
        let rest = 16 % chunk_size;
        let expected = [vec![chunk_size; 16 / chunk_size], vec![rest; usize::from(rest > 0)]].concat();
        assert_eq!(sizes, expected);
    }
}

#[test]
fn stopping_finishes_what_was_taken_and_takes_no_more() {
    let (engine, control) = engine(rows(1));
    control.hold();
    let requests = [request(1, &[1]), request(2, &[2])];
    let mut events = requests.clone().map(|request| engine.submit(request).unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| engine.stop());
        while engine.submit(request(3, &[3])).err() != Some(Refusal::Stopping) {
            std::thread::yield_now();
        }
        control.release();
        for (request, events) in requests.iter().zip(&mut events) {
            check(request, &read(events));
        }
    });
}
