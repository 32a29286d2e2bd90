#![allow(clippy::unwrap_used)]

use super::*;
use crate::draws;

const PLAIN: Parameters = Parameters { temperature: 1.0, top_k: 0, top_p: 1.0, guidance_scale: 1.0 };

/// Logits of no particular shape: about normal, from the draws of one seed.
fn noise(seed: u64, count: u32) -> Vec<f32> {
    let normal = |i| (0..6).map(|j| draws::uniform(seed, 6 * i + j) - 0.5).sum::<f64>() * 4.0;
    (0..count).map(|i| normal(i) as f32).collect()
}

fn draw(logits: &[f32], parameters: Parameters, uniform: f64) -> u32 {
    Picker::default().draw(logits, &parameters, uniform).unwrap()
}

/// The tokens that can be drawn, over a fine comb of uniform numbers.
fn support(logits: &[f32], parameters: Parameters) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..20_000).map(|i| draw(logits, parameters, f64::from(i) / 20_000.0)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The definition, in f64 with full sorts: (id, probability) of the tokens that are kept, by rising id.
fn reference(logits: &[f32], parameters: Parameters) -> Vec<(u32, f64)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weigh = |z: f32| (f64::from(z - max) / f64::from(parameters.temperature)).exp();
    let mut kept: Vec<(u32, f64)> = (0..).zip(logits).map(|(id, &z)| (id, weigh(z))).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if parameters.top_k > 0 {
        kept.truncate(parameters.top_k as usize);
    }
    if parameters.top_p < 1.0 {
        let total: f64 = kept.iter().map(|k| k.1).sum();
        let mut sum = 0.0;
        let reached = |k: &(u32, f64)| {
            sum += k.1;
            sum >= f64::from(parameters.top_p) * total
        };
        let last = kept.iter().position(reached).unwrap_or(kept.len() - 1);
        kept.truncate(last + 1);
    }
    let total: f64 = kept.iter().map(|k| k.1).sum();
    kept.iter_mut().for_each(|k| k.1 /= total);
    kept.sort_by_key(|k| k.0);
    kept
}

#[test]
fn exp_is_close_to_the_library_s() {
    for i in 0..=870_000 {
        let x = i as f32 * -1e-4;
        let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
        assert!((ours - exact).abs() <= 3e-7 * exact, "exp({x}): {ours} {exact}");
    }
    assert_eq!((exp(0.0), exp(-0.0)), (1.0, 1.0));
    assert_eq!((exp(-87.1), exp(f32::MIN), exp(f32::NEG_INFINITY)), (0.0, 0.0, 0.0));
}

#[test]
fn guidance_mixes_the_two_rows() {
    let mut out = vec![9.0; 5];
    guide(&[1.0, 2.0, -3.0], &[0.0, 4.0, -3.0], 3.0, &mut out);
    assert_eq!(out, [3.0, -2.0, -3.0]);
    guide(&[1.0, 2.0], &[0.0, 4.0], 0.0, &mut out);
    assert_eq!(out, [0.0, 4.0]);
}

#[test]
fn greedy_takes_the_lowest_id_on_a_tie() {
    let greedy = Parameters { temperature: 0.0, ..PLAIN };
    assert_eq!(draw(&[1.0, 3.0, 3.0, 2.0], greedy, 0.99), 1);
    assert_eq!(draw(&[-0.0, 0.0], greedy, 0.99), 0);
    assert_eq!(draw(&[f32::NEG_INFINITY, -5.0], greedy, 0.0), 1);
}

#[test]
fn a_tiny_temperature_is_greedy_and_a_huge_one_uniform() {
    let logits = noise(1, 64);
    let best = draw(&logits, Parameters { temperature: 0.0, ..PLAIN }, 0.0);
    for temperature in [1e-30, f32::MIN_POSITIVE, f32::from_bits(1)] {
        assert_eq!(support(&logits, Parameters { temperature, ..PLAIN }), [best]);
    }
    let flat = Parameters { temperature: 100.0, ..PLAIN };
    assert_eq!(support(&[0.5, -0.5, 0.0, 0.25], flat), [0, 1, 2, 3]);
    // Large logits do not overflow.
    assert_eq!(support(&[f32::MAX, f32::MAX, f32::MIN], Parameters { temperature: 0.5, ..PLAIN }), [0, 1]);
}

#[test]
fn top_k_keeps_exactly_k_and_on_a_tie_the_lower_ids() {
    let logits = [2.0, 5.0, 2.0, 2.0, 1.0, 2.0];
    let top = |top_k| support(&logits, Parameters { top_k, ..PLAIN });
    assert_eq!(top(1), [1]);
    assert_eq!(top(2), [0, 1]);
    assert_eq!(top(4), [0, 1, 2, 3]);
    for all in [0, 6, 7, 1 << 31] {
        assert_eq!(top(all), [0, 1, 2, 3, 4, 5], "top_k {all}");
    }
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_p() {
    // Probabilities ½, ¼, ⅛, ⅛.
    let logits = [8f32, 4.0, 2.0, 2.0].map(f32::ln);
    let top = |top_p| support(&logits, Parameters { top_p, ..PLAIN });
    assert_eq!(top(f32::MIN_POSITIVE), [0]);
    assert_eq!(top(0.49), [0]);
    assert_eq!(top(0.51), [0, 1]);
    assert_eq!(top(0.76), [0, 1, 2]);
    assert_eq!(top(0.9), [0, 1, 2, 3]);
    assert_eq!(top(1.0), [0, 1, 2, 3]);
    // After top-k 2 the first has ⅔.
    assert_eq!(support(&logits, Parameters { top_k: 2, top_p: 0.6, ..PLAIN }), [0]);
}

#[test]
fn filters_and_draws_agree_with_the_definition() {
    for seed in 0..60 {
        let pick = |p: u32, of: &[f32]| of[(draws::uniform(seed ^ 77, p) * of.len() as f64) as usize];
        let logits = noise(seed, [5, 64, 333, 1000][seed as usize % 4]);
        let parameters = Parameters {
            temperature: pick(0, &[0.05, 0.7, 1.0, 3.0]),
            top_k: pick(1, &[0.0, 1.0, 2.0, 50.0, 200.0, 5000.0]) as u32,
            top_p: pick(2, &[1e-6, 0.1, 0.5, 0.9, 0.999, 1.0]),
            guidance_scale: 1.0,
        };
        let expected = reference(&logits, parameters);
        for position in 0..200 {
            let uniform = draws::uniform(seed, position);
            let mut sum = 0.0;
            let found = draw(&logits, parameters, uniform);
            let (id, low, high) = expected
                .iter()
                .map(|&(id, p)| {
                    sum += p;
                    (id, sum - p, sum)
                })
                .find(|bin| bin.0 == found)
                .unwrap_or_else(|| panic!("{found} is filtered out by {parameters:?}"));
            let near = low - 1e-5..high + 1e-5;
            assert!(near.contains(&uniform), "{id} for {uniform}, expected within {near:?}, {parameters:?}");
        }
    }
}

#[test]
fn the_ends_of_the_interval_fall_on_tokens_with_weight() {
    let none = f32::NEG_INFINITY;
    assert_eq!(draw(&[none, 0.0, none], PLAIN, 0.0), 1);
    assert_eq!(draw(&[none, 0.0, 0.0, none], PLAIN, 1.0), 2);
    assert_eq!(draw(&[none, 0.0, 0.0, none], PLAIN, 1.0 - f64::EPSILON / 2.0), 2);
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    let refused = |logits: &[f32], parameters| Picker::default().draw(logits, &parameters, 0.5).unwrap_err();
    for parameters in [PLAIN, Parameters { temperature: 0.0, ..PLAIN }, Parameters { top_k: 1, ..PLAIN }] {
        assert_eq!(refused(&[0.0, f32::NAN, 1.0], parameters), Error::NotFinite { token: 1 });
        assert_eq!(refused(&[0.0, 1.0, f32::INFINITY], parameters), Error::NotFinite { token: 2 });
        assert_eq!(refused(&[f32::NEG_INFINITY; 3], parameters), Error::Empty);
        assert_eq!(refused(&[], parameters), Error::Empty);
    }
}

#[test]
fn log_likelihood_is_that_of_the_plain_softmax() {
    for count in [1, 7, 8, 1001] {
        let logits = noise(3, count);
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        for token in [0, count / 2, count - 1] {
            let expected = f64::from(logits[token as usize]) - sum.ln();
            assert!((log_likelihood(&logits, token) - expected).abs() < 1e-6);
        }
    }
    assert_eq!(log_likelihood(&[f32::NEG_INFINITY, 0.0], 1), 0.0);
    assert_eq!(log_likelihood(&[f32::NEG_INFINITY, 0.0], 0), f64::NEG_INFINITY);
}
