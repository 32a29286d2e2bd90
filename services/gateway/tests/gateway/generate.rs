//! Generate: which events come, in which order, with what in them.

use easel_proto::v1::generate_response::{Event, Finished, GeneratedPicture, Started};
use easel_proto::v1::{
    Cell, GenerateRequest, ImageFormat, ImagePrompt, PackageRef, SamplingParameters, image_prompt::Region,
};

use crate::stages::{CELLS, log_likelihood, pixels, score, token};
use crate::suite::{Suite, request};

fn pictures(events: &[Event]) -> Vec<&GeneratedPicture> {
    let mut pictures = Vec::new();
    for event in events {
        if let Event::Picture(picture) = event {
            pictures.push(picture);
        }
    }
    pictures
}

fn started(events: &[Event]) -> &Started {
    let started = events.iter().find_map(|event| match event {
        Event::Started(started) => Some(started),
        _ => None,
    });
    started.expect("a started event")
}

fn finished(events: &[Event]) -> &Finished {
    match events.last() {
        Some(Event::Finished(finished)) => finished,
        other => panic!("the last event is {other:?}"),
    }
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Queued(_) => "queued",
        Event::Started(_) => "started",
        Event::Progress(_) => "progress",
        Event::Preview(_) => "preview",
        Event::Picture(_) => "picture",
        Event::Ranking(_) => "ranking",
        Event::Finished(_) => "finished",
    }
}

fn of_candidate(event: &Event, id: u32) -> bool {
    match event {
        Event::Progress(progress) => progress.candidate == id,
        Event::Preview(preview) => preview.candidate == id,
        Event::Picture(picture) => picture.candidate == id,
        _ => false,
    }
}

#[tokio::test]
async fn the_events_come_in_order() {
    let suite = Suite::start().await;
    let events = suite.generate(request()).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(kind).collect();
    assert_eq!(kinds[0], "queued");
    let start = kinds.iter().position(|kind| *kind == "started").unwrap();
    assert!(kinds[..start].iter().all(|kind| *kind == "queued"));
    assert_eq!(kinds[kinds.len() - 2..], ["ranking", "finished"]);
    assert_eq!(kinds.iter().filter(|kind| ["started", "ranking", "finished"].contains(kind)).count(), 3);
    for id in 0..2 {
        let own: Vec<&Event> = events.iter().filter(|event| of_candidate(event, id)).collect();
        let picture = own.iter().position(|event| kind(event) == "picture").unwrap();
        assert_eq!(picture, own.len() - 1, "nothing of a candidate follows its picture");
        assert!(own.iter().any(|event| kind(event) == "progress"));
    }
}

#[tokio::test]
async fn started_tells_all_that_repeats_the_drawing() {
    let suite = Suite::start().await;
    let asked = GenerateRequest {
        parameters: Some(SamplingParameters { top_k: Some(7), ..SamplingParameters::default() }),
        seed: Some(u64::MAX),
        ..request()
    };
    let events = suite.generate(asked).await.unwrap();
    let package = PackageRef { name: "shapes".to_owned(), digest: "d1".to_owned() };
    let parameters =
        SamplingParameters { temperature: Some(0.9), top_k: Some(7), top_p: Some(1.0), guidance_scale: Some(1.0) };
    let started = started(&events);
    assert_eq!(started.package, Some(package.clone()));
    assert_eq!(started.seeds, [u64::MAX, 0]);
    assert_eq!(started.parameters, Some(parameters));
    assert_eq!(started.text_tokens, [2, 8, 2, 7]);
    assert_eq!(started.pieces, ["an", "armchair", "of", "avocado"]);
    assert!(started.truncated);
    assert_eq!(
        (&started.unknown_words[..], &started.nearest_words[..]),
        (&["avocado".to_owned()][..], &["avocados".to_owned()][..])
    );
    assert_eq!((started.image_width, started.image_height, started.given_tokens), (8, 8, 0));

    let seen = suite.script.seen();
    let sampled = &seen.sampled[0];
    assert_eq!(sampled.package, Some(package.clone()));
    assert_eq!(sampled.parameters, Some(parameters));
    assert_eq!(sampled.text_tokens, started.text_tokens);
    assert_eq!(seen.decoding[0].package, Some(package.clone()));
    assert_eq!(seen.ranking[0].package, Some(package));
    assert!(seen.tokenized.iter().all(|asked| asked.package.as_ref().unwrap().digest == "d1"));
}

#[tokio::test]
async fn pictures_have_their_score_tokens_and_likelihood() {
    let suite = Suite::start().await;
    let events = suite.generate(request()).await.unwrap();
    let pictures = pictures(&events);
    assert_eq!(pictures.len(), 2);
    for picture in pictures {
        let (id, seed) = (picture.candidate, 1 + u64::from(picture.candidate));
        assert_eq!(picture.seed, seed);
        assert_eq!(picture.clip_score, Some(score(token(seed, 0))));
        assert_eq!(picture.image_tokens, (0..CELLS).map(|p| token(seed, p)).collect::<Vec<u32>>());
        assert_eq!((picture.log_likelihood, picture.unconditional_log_likelihood), (log_likelihood(id), None));
        let image = picture.image.as_ref().unwrap();
        assert_eq!((image.format(), image.width, image.height), (ImageFormat::Png, 8, 8));
        let decoded = image::load_from_memory(&image.data).unwrap().into_rgb8().into_raw();
        assert_eq!(decoded, pixels(8, token(seed, 0), 16).rgb8);
    }
}

#[tokio::test]
async fn previews_grow_and_are_as_many_as_asked_for() {
    let suite = Suite::start().await;
    // More often than once a row, too; and a caller that reads misses none.
    let cases = [(Some(0), vec![]), (None, vec![4, 8, 12]), (Some(7), (2..16).step_by(2).collect::<Vec<u32>>())];
    for (previews, expected) in cases {
        let events = suite.generate(GenerateRequest { previews, candidates: 16, ..request() }).await.unwrap();
        let mut shown = vec![Vec::new(); 16];
        for event in &events {
            if let Event::Preview(preview) = event {
                shown[preview.candidate as usize].push(preview.tokens_done);
                let image = image::load_from_memory(&preview.image.as_ref().unwrap().data).unwrap();
                assert_eq!((image.width(), image.height()), (8, 8));
            }
        }
        assert!(shown.iter().all(|done| *done == expected), "{previews:?}: {shown:?}");
    }
}

#[tokio::test]
async fn the_ranking_is_in_score_order_and_the_end_has_the_times() {
    let suite = Suite::start().await;
    let events = suite.generate(GenerateRequest { candidates: 5, ..request() }).await.unwrap();
    let Some(Event::Ranking(ranking)) = events.iter().find(|event| kind(event) == "ranking") else {
        panic!("no ranking");
    };
    assert_eq!(ranking.entries.len(), 5);
    assert!(ranking.entries.windows(2).all(|pair| pair[0].clip_score >= pair[1].clip_score));
    let finished = finished(&events);
    assert_eq!(finished.seeds, [1, 2, 3, 4, 5]);
    assert_eq!(finished.tokens_drawn, 5 * CELLS);
    let names: Vec<&str> = finished.stages.iter().map(|stage| stage.stage.as_str()).collect();
    assert_eq!(names, ["tokenizer", "sampler", "decoder", "ranker", "gateway"]);
    for stage in &finished.stages {
        assert!(stage.last_seconds >= stage.first_seconds && stage.last_seconds <= finished.total_seconds, "{stage:?}");
        assert!(stage.first_seconds > 0.0 && stage.busy_seconds > 0.0, "{stage:?}");
    }
    assert!(finished.tokens_per_second > 0.0);
}

#[tokio::test]
async fn with_keep_only_the_best_are_sent_best_first() {
    let suite = Suite::start().await;
    let events = suite.generate(GenerateRequest { candidates: 6, keep: 2, ..request() }).await.unwrap();
    let kept: Vec<u32> = pictures(&events).iter().map(|picture| picture.candidate).collect();
    let Some(Event::Ranking(ranking)) = events.iter().find(|event| kind(event) == "ranking") else {
        panic!("no ranking");
    };
    assert_eq!(ranking.entries.len(), 6);
    let best: Vec<u32> = ranking.entries[..2].iter().map(|entry| entry.candidate).collect();
    assert_eq!(kept, best);
    assert_eq!(suite.script.seen().ranked, 6);
}

#[tokio::test]
async fn tokens_without_a_prompt_are_drawn_and_not_ranked() {
    let suite = Suite::start().await;
    let asked = GenerateRequest { prompt: String::new(), text_tokens: vec![3, 4], ..request() };
    let events = suite.generate(asked).await.unwrap();
    assert!(pictures(&events).iter().all(|picture| picture.clip_score.is_none()));
    assert_eq!(started(&events).text_tokens, [3, 4]);
    assert!(started(&events).pieces.is_empty());
    let seen = suite.script.seen();
    assert_eq!(seen.sampled[0].text_tokens, [3, 4]);
    assert!(seen.tokenized.is_empty() && seen.ranking.is_empty());
}

#[tokio::test]
async fn tokens_with_a_prompt_are_ranked_by_it() {
    let suite = Suite::start().await;
    let events = suite.generate(GenerateRequest { text_tokens: vec![3, 4], ..request() }).await.unwrap();
    assert!(pictures(&events).iter().all(|picture| picture.clip_score.is_some()));
    let seen = suite.script.seen();
    assert_eq!(seen.sampled[0].text_tokens, [3, 4]);
    assert_eq!(seen.tokenized.len(), 1);
    assert_eq!(seen.ranking[0].caption.as_ref().unwrap().ids, [2, 8, 2, 7]);
}

#[tokio::test]
async fn a_package_without_clip_draws_and_does_not_rank() {
    let suite = Suite::start().await;
    suite.change(|package| package.ranking = false);
    let events = suite.generate(request()).await.unwrap();
    assert!(pictures(&events).iter().all(|picture| picture.clip_score.is_none()));
    assert!(events.iter().any(|event| matches!(event, Event::Ranking(ranking) if ranking.entries.is_empty())));
}

#[tokio::test]
async fn seeds_that_are_not_given_are_chosen() {
    let suite = Suite::start().await;
    let asked = || GenerateRequest { seed: None, ..request() };
    let (first, second) = (suite.generate(asked()).await.unwrap(), suite.generate(asked()).await.unwrap());
    assert_ne!(started(&first).seeds, started(&second).seeds);
    let seeds = &started(&first).seeds;
    assert_eq!(seeds[1], seeds[0].wrapping_add(1));
}

#[tokio::test]
async fn each_format_is_sent() {
    let suite = Suite::start().await;
    for format in [ImageFormat::Jpeg, ImageFormat::Webp, ImageFormat::Raw] {
        let events = suite.generate(GenerateRequest { format: format.into(), ..request() }).await.unwrap();
        let image = pictures(&events)[0].image.as_ref().unwrap().clone();
        assert_eq!(image.format(), format);
        match format {
            ImageFormat::Raw => assert_eq!(image.data.len(), 8 * 8 * 3),
            _ => assert_eq!(image::load_from_memory(&image.data).unwrap().width(), 8),
        }
    }
}

fn image_prompt(region: Region) -> GenerateRequest {
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbaImage::from_pixel(5, 3, image::Rgba([0, 0, 0, 0]));
    image::DynamicImage::from(picture).write_to(&mut png, image::ImageFormat::Png).unwrap();
    GenerateRequest { image: Some(ImagePrompt { image: png.into_inner(), region: Some(region) }), ..request() }
}

#[tokio::test]
async fn kept_rows_of_a_picture_are_given_as_a_prefix() {
    let suite = Suite::start().await;
    let events = suite.generate(image_prompt(Region::KeepRows(1))).await.unwrap();
    let seen = suite.script.seen();
    let encoded = seen.encoded[0].picture.as_ref().unwrap();
    assert_eq!((encoded.width, encoded.height), (5, 3));
    assert!(encoded.rgb8.iter().all(|&value| value == 255), "what is transparent lies over white");
    let given = seen.sampled[0].given.as_ref().unwrap();
    assert!(given.positions.is_empty());
    assert_eq!(given.tokens, [10, 11, 12, 13]);
    assert_eq!(started(&events).given_tokens, 4);
    assert_eq!(finished(&events).tokens_drawn, 2 * (CELLS - 4));
    assert_eq!(pictures(&events)[0].image_tokens[..4], [10, 11, 12, 13]);
}

#[tokio::test]
async fn a_corner_of_a_picture_is_drawn_anew() {
    let suite = Suite::start().await;
    suite.generate(image_prompt(Region::RedrawFrom(Cell { row: 2, column: 2 }))).await.unwrap();
    let seen = suite.script.seen();
    let given = seen.sampled[0].given.as_ref().unwrap();
    assert_eq!(given.positions, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13]);
    assert_eq!(given.tokens, given.positions.iter().map(|p| p + 10).collect::<Vec<u32>>());
}

#[tokio::test]
async fn the_callers_trace_goes_through_every_stage() {
    let suite = Suite::start().await;
    let mut asked = tonic::Request::new(request());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    asked.metadata_mut().insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    let stream = suite.client().await.generate(asked).await.unwrap().into_inner();
    crate::suite::collect(stream).await.unwrap();
    let traces = suite.script.seen().traces;
    let mut parents = Vec::new();
    for method in ["tokenize", "sample", "decode", "rank"] {
        let parts: Vec<&str> = traces[method].split('-').collect();
        assert_eq!(parts[1], trace, "{method}");
        parents.push(parts[2]);
    }
    parents.sort_unstable();
    parents.dedup();
    assert_eq!(parents.len(), 4, "each stage is called from a span of its own");
}

#[tokio::test]
async fn a_negative_prompt_goes_to_the_sampler_as_tokens() {
    let suite = Suite::start().await;
    let parameters = Some(SamplingParameters { guidance_scale: Some(2.0), ..SamplingParameters::default() });
    let plain = GenerateRequest { parameters, ..request() };
    let asked = GenerateRequest { negative_prompt: "no red cars".to_owned(), ..plain.clone() };
    // With tokens for a caption as well.
    let tokens = GenerateRequest { text_tokens: vec![5], prompt: String::new(), ..asked.clone() };
    for (request, negative) in [(plain, None), (asked, Some(vec![2, 3, 4])), (tokens, Some(vec![2, 3, 4]))] {
        let events = suite.generate(request).await.unwrap();
        assert_eq!(started(&events).negative_truncated, negative.is_some(), "these stages say that all are too long");
        let sampled = suite.script.seen().sampled.last().cloned().unwrap();
        assert_eq!(sampled.negative_tokens.map(|tokens| tokens.ids), negative);
    }
}
