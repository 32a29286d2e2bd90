//! The arithmetic by itself: every path has the same bits, whoever is computed together.

use super::*;
use crate::test::Random;

/// Distance in units of the last place.
fn ulp(found: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
    (f64::from(found) - exact).abs() / unit
}

#[test]
fn the_exponential_is_close_and_rises() {
    assert_eq!(exponential(0.0), 1.0);
    assert!(exponential(f32::NEG_INFINITY) < 2e-38);
    assert!(exponential(f32::NAN).is_nan());
    let numbers = (0..2_000_000).map(|i| -87.0 * i as f32 / 2e6).chain((0..2_000_000).map(|i| -1e-3 * i as f32 / 2e6));
    let worst = numbers.map(|x| ulp(exponential(x), f64::from(x).exp())).fold(0.0, f64::max);
    assert!(worst <= 2.0, "{worst}");
    let near = (0..1_000_000).map(|i| exponential(-f32::from_bits(0x3000_0000 + i * 256)));
    assert!(near.is_sorted_by(|a, b| a >= b));
}

/// Keys and values of some sequences' texts and images, as they are stored.
struct Stored<E> {
    groups: usize,
    parts: Vec<[Vec<[E; LANES]>; 2]>,
}

impl<E: Number> Stored<E> {
    fn random(random: &mut Random, width: usize, parts: usize, places: usize) -> Self {
        let groups = width.div_ceil(LANES);
        let mut number = |i: usize| if i < width { E::of(random.normal()) } else { E::default() };
        let mut plane =
            || (0..places * groups).map(|g| std::array::from_fn(|l| number(g % groups * LANES + l))).collect();
        Self { groups, parts: (0..parts).map(|_| [plane(), plane()]).collect() }
    }

    fn planes(&self, part: usize) -> Planes<'_, E> {
        let [keys, values] = &self.parts[part];
        Planes { keys, values }
    }

    fn number(&self, part: usize, value: bool, place: usize, i: usize) -> f64 {
        let lanes = &self.parts[part][usize::from(value)][place * self.groups + i / LANES];
        let mut wide = [0.0; LANES];
        E::load::<Lanes>(lanes).store(&mut wide);
        f64::from(wide[i % LANES])
    }
}

/// Rising spans of the text, then of the image.
fn spans(random: &mut Random, places: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    for image in [false, true] {
        let mut start = if random.below(2) == 0 { 0 } else { random.below(places / 2) };
        for _ in 0..random.below(4) {
            let length = 1 + random.below(places / 3);
            if start + length <= places {
                spans.push(Span { image, start, length });
            }
            start += length + 1 + random.below(5);
        }
    }
    if spans.is_empty() {
        spans.push(Span { image: true, start: 0, length: 1 });
    }
    spans
}

fn run<E: Number>(path: Path, readers: &[Reader<'_, E>], scratch: &mut Scratch) -> Vec<Vec<f32>> {
    let mut contexts: Vec<Vec<f32>> = readers.iter().map(|reader| vec![0.0; reader.query.len()]).collect();
    let mut outputs: Vec<&mut [f32]> = contexts.iter_mut().map(Vec::as_mut_slice).collect();
    attend(path, readers, 0.3, scratch, &mut outputs);
    contexts
}

/// The definition in f64, from the numbers as they are stored.
fn reference<E: Number>(stored: &Stored<E>, parts: [usize; 2], query: &[f32], spans: &[Span]) -> Vec<f64> {
    let part = |span: &Span| parts[usize::from(span.image)];
    let places: Vec<(usize, usize)> =
        spans.iter().flat_map(|span| (span.start..span.start + span.length).map(|place| (part(span), place))).collect();
    let dot = |(part, place): (usize, usize)| -> f64 {
        query.iter().enumerate().map(|(i, q)| f64::from(q * 0.3) * stored.number(part, false, place, i)).sum()
    };
    let weights: Vec<f64> = places.iter().map(|place| dot(*place).exp()).collect();
    let mixed = |i| {
        places.iter().zip(&weights).map(|((part, place), w)| w * stored.number(*part, true, *place, i)).sum::<f64>()
    };
    (0..query.len()).map(|i| mixed(i) / weights.iter().sum::<f64>()).collect()
}

fn every_path_and_company<E: Number>(seed: u64) {
    const PLACES: usize = 150;
    let mut random = Random(seed);
    let mut scratch = Scratch::default();
    for width in [1, 5, 16, 31, 48, 64, 72, 128] {
        let stored = Stored::<E>::random(&mut random, width, 6, PLACES);
        for count in 1..=TOGETHER {
            let lists: Vec<Vec<Span>> = (0..2).map(|_| spans(&mut random, PLACES)).collect();
            // They read one text and their own images, or the same of both, by the same list or by others.
            let (own, same) = (random.below(2), random.below(3) > 0);
            let parts = |i: usize| [0, 1 + own * i];
            let list = |i: usize| &lists[if same { 0 } else { i % 2 }];
            let queries: Vec<Vec<f32>> = (0..count).map(|_| (0..width).map(|_| random.normal()).collect()).collect();
            let readers: Vec<Reader<'_, E>> = (0..count)
                .map(|i| {
                    let [text, image] = parts(i).map(|part| stored.planes(part));
                    Reader { query: &queries[i], spans: list(i), text, image }
                })
                .collect();
            let alone: Vec<Vec<f32>> = readers
                .iter()
                .flat_map(|reader| run(Path(Instructions::Any), std::slice::from_ref(reader), &mut scratch))
                .collect();
            for path in Path::here() {
                assert!(run(path, &readers, &mut scratch) == alone, "{path:?}, {count} of width {width}");
            }
            for (i, found) in alone.iter().enumerate() {
                for (expected, found) in reference(&stored, parts(i), &queries[i], list(i)).iter().zip(found) {
                    let error = (expected - f64::from(*found)).abs();
                    assert!(error <= 2e-6 + 1e-5 * expected.abs(), "width {width}: {error}");
                }
            }
        }
    }
}

#[test]
fn every_path_gives_the_same_bits_in_any_company_and_they_are_right() {
    for seed in 0..20 {
        every_path_and_company::<f32>(seed);
        every_path_and_company::<u16>(100 + seed);
    }
}

#[test]
fn memory_is_reused() {
    let mut random = Random(5);
    let stored = Stored::<f32>::random(&mut random, 64, 2, 100);
    let query: Vec<f32> = (0..64).map(|_| random.normal()).collect();
    let spans = [Span { image: false, start: 0, length: 100 }];
    let reader = Reader { query: &query, spans: &spans, text: stored.planes(0), image: stored.planes(1) };
    let mut scratch = Scratch::default();
    run(Path(Instructions::Any), &[reader; TOGETHER], &mut scratch);
    let places = |s: &Scratch| (s.queries.as_ptr() as usize, s.weights.as_ptr() as usize, s.contexts.as_ptr() as usize);
    let before = places(&scratch);
    run(Path(Instructions::Any), &[reader; TOGETHER], &mut scratch);
    assert_eq!(places(&scratch), before);
}
