//! The operator inside ONNX Runtime against the definition in f64.
#![allow(clippy::unwrap_used)]

use ort::{session::Session, value::TensorRef};

use super::*;
use crate::{Prefix, Row, Runtime, attend::Path, graph::making_with_operators, test::Random};

mod onnx;

const NONE: Geometry = Geometry {
    layers: 0,
    heads: 0,
    head_width: 0,
    text_length: 0,
    rows: 0,
    columns: 0,
    ragged: false,
    shifts: 0,
    shift_width: 0,
};

/// A node as its attributes have it.
#[derive(Clone, Copy, Debug)]
struct Written {
    geometry: Geometry,
    layer: usize,
    mask: Mask,
    scale: f32,
    query_heads: usize,
    mask_text_length: usize,
    hidden: bool,
}

impl Written {
    fn plain(geometry: Geometry, layer: usize, mask: Mask) -> Self {
        let Geometry { heads, text_length, .. } = geometry;
        Self { geometry, layer, mask, scale: 1.0, query_heads: heads, mask_text_length: text_length, hidden: false }
    }
}

struct Case {
    node: Written,
    sequences: Vec<Sequence>,
    /// Positions that the first sequence has computed when the others begin.
    held: usize,
}

/// How a case is computed.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Rows of a call.
    most: usize,
    threads: usize,
    precision: Precision,
    path: Path,
}

impl Way {
    fn best(most: usize, threads: usize, precision: Precision) -> Self {
        Self { most, threads, precision, path: Path::here().next().unwrap() }
    }
}

/// What every position is given, [positions][query, key, value][heads · head_width], the first position, and the length of the prefix in the first sequence.
struct Sequence {
    tokens: Vec<[Vec<f32>; 3]>,
    first: usize,
    prefix: usize,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let kernel = 1 + 2 * random.below(4);
        let squares = [Mask::Convolution(kernel), Mask::Corner(kernel), Mask::Torus(kernel)];
        let masks = [&[Mask::Full, Mask::Row, Mask::Column, Mask::AxialRow], &squares[..]].concat();
        let geometry = Geometry {
            layers: 1 + random.below(3),
            heads: 1 + random.below(3),
            head_width: 1 + random.below(40),
            text_length: 1 + random.below(9),
            rows: 1 + random.below(9),
            columns: 1 + random.below(9),
            ragged: random.below(2) == 0,
            ..NONE
        };
        let node = Written {
            query_heads: geometry.heads * (1 + random.below(3)),
            mask_text_length: geometry.text_length - usize::from(random.below(4) == 0),
            hidden: random.below(4) == 0,
            scale: 0.3,
            ..Written::plain(geometry, random.below(geometry.layers), masks[random.below(masks.len())])
        };
        let width = geometry.heads * geometry.head_width;
        let widths = [node.query_heads * geometry.head_width, width, width];
        let mut token = || widths.map(|width| (0..width).map(|_| random.normal()).collect());
        let mut sequence = || (0..geometry.positions()).map(|_| token()).collect::<Vec<[Vec<f32>; 3]>>();
        let mut tokens: Vec<_> = (0..5).map(|_| sequence()).collect();
        let firsts = [0; 2].map(|_| if geometry.ragged { random.below(geometry.text_length) } else { 0 });
        let held = geometry.text_length + random.below(geometry.cells() + 1);
        let mut sequences = Vec::new();
        for (i, prefix) in [0, geometry.text_length, 0, firsts[0] + 1, held].into_iter().enumerate() {
            let first = firsts[usize::from(i == 2)];
            let (shared, own) = tokens.split_at_mut(i);
            own[0][..prefix].clone_from_slice(shared.first().map_or(&[][..], |first| &first[..prefix]));
            sequences.push(Sequence { tokens: own[0].clone(), first, prefix });
        }
        Self { node, sequences, held }
    }

    /// What the operator gives for every sequence, [positions · width], in calls whose rows `random` chooses.
    fn run(&self, random: &mut Random, way: Way) -> Vec<Vec<f32>> {
        let width = self.width();
        let shared = Shared::new(Pool::new(self.node.geometry, way.precision, self.sequences.len()));
        shared.pool.lock().unwrap().path = way.path;
        let making = making_with_operators();
        let mut session = Session::builder(Runtime::load().unwrap().environment())
            .unwrap()
            .with_intra_threads(way.threads)
            .unwrap()
            .with_operators(shared.domain().unwrap())
            .unwrap()
            .commit_from_memory(&onnx::attention(&self.node))
            .unwrap();
        drop(making);
        let mut contexts = vec![Vec::new(); self.sequences.len()];
        let mut feed = |slots: usize, until: usize| {
            loop {
                let rows = self.choose((slots, until), &contexts, random, way.most);
                if rows.is_empty() {
                    break;
                }
                shared.pool.lock().unwrap().reserve(&rows).unwrap();
                let out = self.call(&mut session, &rows);
                shared.pool.lock().unwrap().settle(&rows, true);
                for (row, context) in rows.iter().zip(out.chunks_exact(width)) {
                    contexts[row.slot].extend_from_slice(context);
                }
            }
        };
        shared.pool.lock().unwrap().begin(0, None).unwrap();
        feed(1, self.held);
        for (slot, sequence) in self.sequences.iter().enumerate().skip(1) {
            let length = sequence.prefix as u32;
            let prefix = (length > 0).then_some(Prefix { slot: 0, length });
            shared.pool.lock().unwrap().begin(slot, prefix).unwrap();
        }
        feed(self.sequences.len(), self.node.geometry.positions());
        contexts
    }

    /// Numbers of a row's context.
    fn width(&self) -> usize {
        self.node.query_heads * self.node.geometry.head_width
    }

    /// Some next tokens, before position `until`, of some of the first `slots` sequences.
    fn choose(
        &self,
        (slots, until): (usize, usize),
        contexts: &[Vec<f32>],
        random: &mut Random,
        most: usize,
    ) -> Vec<Row> {
        let mut next: Vec<usize> = self.sequences.iter().map(Sequence::begin).collect();
        for (next, context) in next.iter_mut().zip(contexts) {
            *next += context.len() / self.width();
        }
        let mut rows = Vec::new();
        for _ in 0..=random.below(most) {
            let open: Vec<usize> = (0..slots).filter(|&slot| next[slot] < until).collect();
            if open.is_empty() {
                break;
            }
            let slot = open[random.below(open.len())];
            rows.push(Row { slot, token: 0, position: next[slot] as u32, logits: false });
            next[slot] += 1;
        }
        rows
    }

    fn call(&self, session: &mut Session, rows: &[Row]) -> Vec<f32> {
        let given = |part: usize| -> Vec<f32> {
            rows.iter().flat_map(|r| self.sequences[r.slot].tokens[r.position as usize][part].clone()).collect()
        };
        let slots: Vec<i64> = rows.iter().map(|r| r.slot as i64).collect();
        let positions: Vec<i64> = rows.iter().map(|r| i64::from(r.position)).collect();
        let Geometry { heads, head_width, .. } = self.node.geometry;
        let (queries, shape) = ([rows.len(), self.width()], [rows.len(), heads * head_width]);
        let (query, key, value) = (given(0), given(1), given(2));
        let inputs = ort::inputs![
            "query" => TensorRef::from_array_view((queries, &*query)).unwrap(),
            "key" => TensorRef::from_array_view((shape, &*key)).unwrap(),
            "value" => TensorRef::from_array_view((shape, &*value)).unwrap(),
            "slots" => TensorRef::from_array_view(([rows.len()], &*slots)).unwrap(),
            "positions" => TensorRef::from_array_view(([rows.len()], &*positions)).unwrap(),
        ];
        session.run(inputs).unwrap()["context"].try_extract_tensor().unwrap().1.to_vec()
    }

    /// Whether position `q` of a sequence that begins at `first` reads position `k`, by the definition.
    fn sees(&self, first: usize, q: usize, k: usize) -> bool {
        let Written { mask_text_length: text_length, geometry: Geometry { rows, columns, .. }, .. } = self.node;
        if k > q || k < text_length {
            return first <= k && k <= q && (q < text_length || !self.node.hidden);
        }
        let (q, k) = (q - text_length, k - text_length);
        let [above, left] = [q / columns - k / columns, (q % columns).wrapping_sub(k % columns)];
        match self.node.mask {
            Mask::Full => true,
            Mask::Row => q - k <= columns,
            Mask::Column => (q - k).is_multiple_of(columns),
            Mask::AxialRow => above == 0,
            Mask::Corner(kernel) => above < kernel && left < kernel,
            Mask::Torus(kernel) => {
                let near = |distance: usize, length: usize| distance.min(length - distance) <= kernel / 2;
                near(above, rows) && near((q % columns).abs_diff(k % columns), columns)
            }
            Mask::Convolution(kernel) => above <= kernel / 2 && (q % columns).abs_diff(k % columns) <= kernel / 2,
        }
    }

    /// The context of one head of one token, in f64.
    fn reference(&self, sequence: &Sequence, q: usize, head: usize, precision: Precision) -> Vec<f64> {
        let Geometry { head_width: width, heads, .. } = self.node.geometry;
        let key_head = head / (self.node.query_heads / heads);
        let part =
            |position: usize, part: usize, head: usize| &sequence.tokens[position][part][head * width..][..width];
        let keys: Vec<usize> = (0..=q).filter(|&k| self.sees(sequence.first, q, k)).collect();
        let query = part(q, 0, head);
        let kept = |x: f32| f64::from(if precision == Precision::F32 { x } else { bf16(x) });
        let dot = |k: usize| query.iter().zip(part(k, 1, key_head)).map(|(a, b)| f64::from(*a) * kept(*b)).sum::<f64>();
        let weights: Vec<f64> = keys.iter().map(|&k| (dot(k) * f64::from(self.node.scale)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mixed = |j: usize| keys.iter().zip(&weights).map(|(&k, w)| w * kept(part(k, 2, key_head)[j])).sum::<f64>();
        (0..width).map(|j| mixed(j) / sum).collect()
    }

    /// The contexts of a sequence by ONNX Runtime's own operators, all keys at once and those that are not seen masked.
    fn stock(&self, sequence: &Sequence) -> Vec<f32> {
        let Geometry { head_width: width, heads, .. } = self.node.geometry;
        let (count, shared) = (self.node.geometry.positions(), self.node.query_heads / heads);
        let own = sequence.begin()..count;
        let number =
            |position: usize, part: usize, head: usize, i: usize| sequence.tokens[position][part][head * width + i];
        let (mut query, mut key, mut value, mut bias) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for head in 0..self.node.query_heads {
            let numbers = own.clone().flat_map(|q| (0..width).map(move |i| number(q, 0, head, i) * self.node.scale));
            query.extend(numbers);
            key.extend((0..width).flat_map(|i| (0..count).map(move |k| number(k, 1, head / shared, i))));
            value.extend((0..count).flat_map(|k| (0..width).map(move |i| number(k, 2, head / shared, i))));
        }
        for q in own.clone() {
            bias.extend((0..count).map(|k| if self.sees(sequence.first, q, k) { 0.0 } else { f32::NEG_INFINITY }));
        }
        let builder = Session::builder(Runtime::load().unwrap().environment());
        let mut session = builder.unwrap().commit_from_memory(&onnx::stock()).unwrap();
        let (h, n) = (self.node.query_heads, own.len());
        let inputs = ort::inputs![
            "query" => TensorRef::from_array_view(([h, n, width], &*query)).unwrap(),
            "key" => TensorRef::from_array_view(([h, width, count], &*key)).unwrap(),
            "value" => TensorRef::from_array_view(([h, count, width], &*value)).unwrap(),
            "bias" => TensorRef::from_array_view(([n, count], &*bias)).unwrap(),
        ];
        let outputs = session.run(inputs).unwrap();
        let (_, found) = outputs["context"].try_extract_tensor::<f32>().unwrap();
        let at = |q: usize, head: usize| &found[(head * n + q) * width..][..width];
        (0..n).flat_map(|q| (0..h).flat_map(move |head| at(q, head).to_vec())).collect()
    }

    fn hold_against_reference(&self, contexts: &[Vec<f32>], precision: Precision) {
        let (heads, head_width) = (self.node.query_heads, self.node.geometry.head_width);
        for (sequence, contexts) in self.sequences.iter().zip(contexts) {
            let found = contexts.chunks_exact(head_width);
            assert_eq!(found.len(), (self.node.geometry.positions() - sequence.begin()) * heads);
            for (i, found) in found.enumerate() {
                let (q, head) = (sequence.begin() + i / heads, i % heads);
                for (expected, found) in self.reference(sequence, q, head, precision).iter().zip(found) {
                    let error = (expected - f64::from(*found)).abs();
                    assert!(error <= 1e-6 + 1e-5 * expected.abs(), "{:?} at {q}: {error}", self.node);
                }
            }
        }
    }
}

impl Sequence {
    /// The first position that is its own.
    fn begin(&self) -> usize {
        self.first.max(self.prefix)
    }
}

/// To the nearest number with 8 bits, ties to the even one.
fn bf16(x: f32) -> f32 {
    if x == 0.0 {
        return x;
    }
    let unit = f32::from_bits(x.to_bits() & 0xff80_0000) * 2_f32.powi(-7);
    (x / unit).round_ties_even() * unit
}

#[test]
fn every_mask_is_the_definition_on_random_geometries_and_ragged_rows() {
    let mut random = Random(1);
    for i in 0..80 {
        let case = Case::random(&mut random);
        let precision = if i % 4 == 0 { Precision::Bf16 } else { Precision::F32 };
        let most = 1 + random.below(50);
        let contexts = case.run(&mut random, Way::best(most, 1, precision));
        case.hold_against_reference(&contexts, precision);
    }
}

#[test]
fn neither_company_nor_threads_nor_prefill_nor_instructions_change_a_bit() {
    let mut random = Random(2);
    for i in 0..30 {
        let case = Case::random(&mut random);
        let precision = if i % 3 == 0 { Precision::Bf16 } else { Precision::F32 };
        let one_by_one = case.run(&mut random, Way::best(1, 1, precision));
        for (most, threads) in [(9, 1), (60, 1), (60, 2)] {
            for path in Path::here() {
                let way = Way { path, ..Way::best(most, threads, precision) };
                assert!(case.run(&mut random, way) == one_by_one, "{:?}, {way:?}", case.node);
            }
        }
    }
}

#[test]
fn stock_operators_give_the_same() {
    let mut random = Random(6);
    for _ in 0..20 {
        let case = Case::random(&mut random);
        let contexts = case.run(&mut random, Way::best(20, 1, Precision::F32));
        for (sequence, contexts) in case.sequences.iter().zip(&contexts) {
            let expected = case.stock(sequence);
            assert_eq!(expected.len(), contexts.len());
            for (expected, found) in expected.iter().zip(contexts) {
                let error = (expected - found).abs();
                assert!(error <= 2e-6 + 2e-5 * expected.abs(), "{:?}: {error}", case.node);
            }
        }
    }
}

#[test]
fn threads_are_used_and_change_nothing_when_there_is_much_to_do() {
    let mut random = Random(3);
    let mut case = Case::random(&mut random);
    let geometry = Geometry { layers: 1, heads: 4, head_width: 64, text_length: 16, rows: 12, columns: 12, ..NONE };
    case.node = Written { scale: 0.3, ..Written::plain(geometry, 0, Mask::Full) };
    let width = 256;
    let mut token = || std::array::from_fn(|_| (0..width).map(|_| random.normal()).collect());
    let tokens: Vec<[Vec<f32>; 3]> = (0..geometry.positions()).map(|_| token()).collect();
    case.sequences = vec![Sequence { tokens, first: 0, prefix: 0 }];
    let contexts = case.run(&mut Random(4), Way::best(150, 2, Precision::F32));
    case.hold_against_reference(&contexts, Precision::F32);
    assert!(contexts == case.run(&mut Random(5), Way::best(1, 1, Precision::F32)));
}

#[test]
fn a_graph_of_another_geometry_is_refused() {
    let geometry = Geometry { layers: 2, heads: 2, head_width: 8, text_length: 3, rows: 2, columns: 2, ..NONE };
    let load = |written: &Written| {
        let shared = Shared::new(Pool::new(geometry, Precision::F32, 1));
        let bytes = onnx::attention(written);
        let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
        let _making = making_with_operators();
        let session = builder.with_operators(shared.domain().unwrap()).unwrap().commit_from_memory(&bytes);
        session.map(|_| shared).map_err(|error| error.to_string())
    };
    let refused = |written, layer, mask, message: &str| {
        let error = load(&Written::plain(written, layer, mask)).unwrap_err();
        assert!(error.contains(message), "{error}");
    };
    refused(Geometry { heads: 4, ..geometry }, 0, Mask::Row, "heads: expected 2, found 4");
    refused(Geometry { text_length: 4, ..geometry }, 0, Mask::Row, "text_length: expected 3, found 4");
    refused(Geometry { rows: 5, ..geometry }, 0, Mask::Row, "rows: expected 2, found 5");
    refused(Geometry { columns: 1, ..geometry }, 0, Mask::Row, "columns: expected 2, found 1");
    refused(geometry, 2, Mask::Row, "layer: expected 0 … 1, found 2");
    refused(geometry, 0, Mask::Convolution(0), "kernel: expected 1 … 65535");
    let plain = Written::plain(geometry, 1, Mask::Row);
    let error = load(&Written { query_heads: 3, ..plain }).unwrap_err();
    assert!(error.contains("query_heads: expected a multiple of 2, found 3"), "{error}");
    let shared = load(&plain).unwrap();
    let error = shared.check_nodes("sampler.onnx", false).unwrap_err().to_string();
    assert_eq!(error, "sampler.onnx: attention of layer 0: expected one node, found 0");
}

#[test]
fn rows_outside_of_the_pool_are_an_error() {
    let geometry = Geometry { layers: 1, heads: 1, head_width: 4, text_length: 2, rows: 1, columns: 1, ..NONE };
    let shared = Shared::new(Pool::new(geometry, Precision::F32, 2));
    shared.pool.lock().unwrap().begin(0, None).unwrap();
    let rows = [0, 1, 2].map(|position| Row { slot: 0, token: 0, position, logits: false });
    let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
    let bytes = onnx::attention(&Written::plain(geometry, 0, Mask::Full));
    let making = making_with_operators();
    let mut session = builder.with_operators(shared.domain().unwrap()).unwrap().commit_from_memory(&bytes).unwrap();
    drop(making);
    let mut run = |slot: i64, position: i64, width: usize| {
        let numbers = vec![0.0f32; width];
        let tensor = || TensorRef::from_array_view(([1, width], &*numbers)).unwrap();
        let (slot, position) = ([slot], [position]);
        let inputs = ort::inputs![
            "query" => tensor(), "key" => tensor(), "value" => tensor(),
            "slots" => TensorRef::from_array_view(([1usize], &slot[..])).unwrap(),
            "positions" => TensorRef::from_array_view(([1usize], &position[..])).unwrap(),
        ];
        session.run(inputs).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(run(0, 2, geometry.head_width).is_err(), "nothing is reserved");
    shared.pool.lock().unwrap().reserve(&rows).unwrap();
    assert_eq!(run(0, 2, geometry.head_width), Ok(()));
    for (slot, position) in [(1, 0), (2, 0), (-1, 0), (i64::MAX, 0), (0, 3), (0, -1), (0, i64::MAX)] {
        let error = run(slot, position, 4).unwrap_err();
        assert!(error.contains("not those of the pool"), "{error}");
    }
}
