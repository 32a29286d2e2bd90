#![allow(clippy::unwrap_used)]

use easel_proto::v1::{TextTokens, sample_request};

use super::*;

#[path = "../../tests/suite/manifest.rs"]
mod example;

const CANDIDATES: usize = 6;

fn good() -> SampleRequest {
    let candidate = |id| sample_request::Candidate { id, seed: 7 };
    SampleRequest { text_tokens: vec![1, 2], candidates: vec![candidate(4), candidate(2)], ..SampleRequest::default() }
}

fn check(message: SampleRequest) -> Result<Request, Invalid> {
    request(message, &example::manifest("shapes", 4, 4), CANDIDATES)
}

/// The field and the whole description of what is refused.
fn refused(message: SampleRequest) -> (String, String) {
    let Invalid { field, description } = check(message).unwrap_err();
    (field, description)
}

fn with_parameters(change: impl Fn(&mut SamplingParameters)) -> SampleRequest {
    let mut parameters = SamplingParameters::default();
    change(&mut parameters);
    SampleRequest { parameters: Some(parameters), ..good() }
}

fn with_given(positions: &[u32], tokens: &[u32]) -> SampleRequest {
    let given = GivenTokens { positions: positions.to_vec(), tokens: tokens.to_vec() };
    SampleRequest { given: Some(given), ..good() }
}

fn expect(message: SampleRequest, field: &str, description: &str) {
    assert_eq!(refused(message), (field.to_owned(), description.to_owned()));
}

#[test]
fn a_bare_request_takes_the_package_s_defaults() {
    let request = check(good()).unwrap();
    assert_eq!(request.text, [1, 2, 18, 19], "padded position by position");
    assert_eq!(request.candidates, [Candidate { id: 4, seed: 7 }, Candidate { id: 2, seed: 7 }]);
    let defaults = Parameters { temperature: 1.0, top_k: 8, top_p: 0.9, guidance_scale: 1.0 };
    assert_eq!((request.parameters, request.unconditional), (defaults, None));
    assert_eq!((request.chunk_size, request.given.len(), request.deadline), (4, 0, None));
}

#[test]
fn guidance_brings_the_unconditional_caption() {
    let request = check(with_parameters(|p| p.guidance_scale = Some(3.0))).unwrap();
    assert_eq!(request.unconditional, Some(vec![16, 17, 18, 19]));
    assert!(check(with_parameters(|p| p.guidance_scale = Some(1.0))).unwrap().unconditional.is_none());
    let mut manifest = example::manifest("shapes", 4, 4);
    manifest.guidance = None;
    let refused = super::request(with_parameters(|p| p.guidance_scale = Some(3.0)), &manifest, 1 << 10).unwrap_err();
    assert_eq!(refused.field, "parameters.guidance_scale");
    assert!(super::request(with_parameters(|p| p.guidance_scale = Some(1.0)), &manifest, 1 << 10).is_ok());
}

#[test]
fn a_caption_of_the_caller_s_takes_the_place_of_the_unconditional_one() {
    let negative = |scale: f32, ids: &[u32]| SampleRequest {
        negative_tokens: Some(TextTokens { ids: ids.to_vec() }),
        ..with_parameters(|p| p.guidance_scale = Some(scale))
    };
    assert_eq!(check(negative(3.0, &[5])).unwrap().unconditional, Some(vec![5, 17, 18, 19]));
    assert_eq!(check(negative(0.0, &[])).unwrap().unconditional, Some(vec![16, 17, 18, 19]));
    assert_eq!(check(negative(3.0, &[5])).unwrap().text, [1, 2, 18, 19]);
    expect(negative(1.0, &[5]), "negative_tokens", "expected none, as guidance_scale is 1, found 1");
    expect(negative(3.0, &[5; 5]), "negative_tokens.ids", "expected at most 4 of them, found 5");
    expect(negative(3.0, &[1, 99]), "negative_tokens.ids[1]", "expected less than 20, found 99");
}

#[test]
fn candidates_are_bounded_and_unique() {
    let numbered = |ids: &[u32]| SampleRequest {
        candidates: ids.iter().map(|&id| sample_request::Candidate { id, seed: 0 }).collect(),
        ..good()
    };
    expect(numbered(&[]), "candidates", "expected 1 … 6 of them, found 0");
    expect(numbered(&[0; 10_001]), "candidates", "expected 1 … 6 of them, found 10001");
    expect(numbered(&[1, 0, 1]), "candidates[2].id", "expected a number that no other candidate has, found 1");
    assert_eq!(check(numbered(&[5, 4, 3, 2, 1, u32::MAX])).unwrap().candidates.len(), CANDIDATES);
}

#[test]
fn text_tokens_fit_the_package() {
    let text = |text_tokens| SampleRequest { text_tokens, ..good() };
    expect(text(vec![0; 5]), "text_tokens", "expected at most 4 of them, found 5");
    expect(text(vec![0, 20]), "text_tokens[1]", "expected less than 20, found 20");
    expect(text(vec![u32::MAX]), "text_tokens[0]", "expected less than 20, found 4294967295");
    assert_eq!(check(text(vec![19; 4])).unwrap().text, [19; 4]);
    assert_eq!(check(text(vec![])).unwrap().text, [16, 17, 18, 19]);
}

#[test]
fn parameters_are_finite_and_in_range() {
    for wrong in [f32::NAN, -0.1, 100.1, f32::INFINITY, f32::NEG_INFINITY] {
        let (field, description) = refused(with_parameters(|p| p.temperature = Some(wrong)));
        assert_eq!((&*field, description), ("parameters.temperature", format!("expected 0 … 100, found {wrong}")));
        let (field, description) = refused(with_parameters(|p| p.guidance_scale = Some(wrong)));
        assert_eq!((&*field, description), ("parameters.guidance_scale", format!("expected 0 … 100, found {wrong}")));
    }
    for wrong in [f32::NAN, 0.0, -0.5, 1.000_001, f32::INFINITY] {
        let (field, description) = refused(with_parameters(|p| p.top_p = Some(wrong)));
        let expected = format!("expected more than 0 and at most 1, found {wrong}");
        assert_eq!((&*field, description), ("parameters.top_p", expected));
    }
    let top_k = |k| with_parameters(move |p| p.top_k = Some(k));
    expect(top_k(u32::MAX), "parameters.top_k", "expected 0 … 2147483648, found 4294967295");
    for right in [0, 1, 1 << 31] {
        assert_eq!(check(top_k(right)).unwrap().parameters.top_k, right);
    }
    for right in [0.0, -0.0, f32::MIN_POSITIVE, 100.0] {
        assert_eq!(check(with_parameters(|p| p.temperature = Some(right))).unwrap().parameters.temperature, right);
        assert_eq!(
            check(with_parameters(|p| p.guidance_scale = Some(right))).unwrap().parameters.guidance_scale,
            right
        );
    }
    for right in [f32::MIN_POSITIVE, 0.5, 1.0] {
        assert_eq!(check(with_parameters(|p| p.top_p = Some(right))).unwrap().parameters.top_p, right);
    }
}

#[test]
fn given_tokens_are_a_prefix_or_rising_positions() {
    assert_eq!(check(with_given(&[], &[5, 31])).unwrap().given, [(0, 5), (1, 31)]);
    assert_eq!(check(with_given(&[3, 15], &[5, 31])).unwrap().given, [(3, 5), (15, 31)]);
    expect(with_given(&[], &[5, 32]), "given.tokens[1]", "expected less than 32, found 32");
    expect(with_given(&[], &[0; 16]), "given.tokens", "expected fewer than the 16 cells of the grid, found 16");
    expect(with_given(&[0, 1], &[5]), "given.positions", "expected one for each of 1 tokens, found 2");
    expect(with_given(&[0], &[5, 5]), "given.positions", "expected one for each of 2 tokens, found 1");
    expect(with_given(&[0], &[]), "given.positions", "expected one for each of 0 tokens, found 1");
    expect(with_given(&[0, 2, 3, 3], &[5; 4]), "given.positions[3]", "expected more than the one before, found 3");
    expect(with_given(&[4, 2], &[5; 2]), "given.positions[1]", "expected more than the one before, found 2");
    expect(with_given(&[4, 16], &[5; 2]), "given.positions[1]", "expected less than the 16 cells, found 16");
    expect(with_given(&[u32::MAX], &[5]), "given.positions[0]", "expected less than the 16 cells, found 4294967295");
    assert_eq!(check(with_given(&[], &[1; 15])).unwrap().given.len(), 15);
}

#[test]
fn chunks_are_at_most_a_picture() {
    let chunk = |chunk_size| SampleRequest { chunk_size, ..good() };
    expect(chunk(17), "chunk_size", "expected 0 … 16, found 17");
    assert_eq!([0, 1, 16].map(|size| check(chunk(size)).unwrap().chunk_size), [4, 1, 16]);
}
