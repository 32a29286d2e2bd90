//! The operator inside ONNX Runtime against the definition in f64.
#![allow(clippy::unwrap_used)]

use ort::{session::Session, value::TensorRef};

use super::*;
use crate::{Prefix, Row, Runtime, test::Random};

/// The graph of one attention node, written by hand: a protobuf field is a key (number · 8 + wire type), then a number or a length and bytes.
mod onnx {
    pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
        [varint(field << 3), varint(value)].concat()
    }

    pub(super) fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
        [&varint(field << 3 | 2), &varint(value.as_ref().len() as u64), value.as_ref()].concat()
    }

    fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }

    fn int(name: &str, value: usize) -> Vec<u8> {
        bytes(5, [bytes(1, name), number(3, value as u64), number(20, 2)].concat())
    }

    fn value(field: u64, name: &str, element: u64, shape: &[Option<usize>]) -> Vec<u8> {
        let dimension = |n: &Option<usize>| bytes(1, n.map_or_else(|| bytes(2, "n"), |n| number(1, n as u64)));
        let shape: Vec<u8> = shape.iter().flat_map(dimension).collect();
        let tensor = bytes(1, [number(1, element), bytes(2, shape)].concat());
        bytes(field, [bytes(1, name), bytes(2, tensor)].concat())
    }

    pub(super) fn attention(g: super::Geometry, layer: usize, mask: super::Mask, scale: f32) -> Vec<u8> {
        let (mask, kernel) = match mask {
            super::Mask::Full => ("full", 0),
            super::Mask::Row => ("row", 0),
            super::Mask::Column => ("column", 0),
            super::Mask::Convolution(kernel) => ("conv", kernel),
        };
        let inputs = ["query", "key", "value", "slots", "positions"];
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
        node.extend([bytes(2, "context"), bytes(4, "Attention"), bytes(7, "easel")].concat());
        let ints = [("layer", layer), ("heads", g.heads), ("text_length", g.text_length), ("rows", g.rows)];
        node.extend(ints.iter().chain(&[("columns", g.columns), ("kernel", kernel)]).flat_map(|(n, v)| int(n, *v)));
        let mask = [bytes(1, "mask"), bytes(4, mask), number(20, 3)].concat();
        let mut float = [bytes(1, "scale"), vec![2 << 3 | 5]].concat();
        float.extend([scale.to_le_bytes().to_vec(), number(20, 1)].concat());
        node.extend([bytes(5, mask), bytes(5, float)].concat());
        let width = Some(g.heads * g.head_width);
        let mut graph = [bytes(1, node), bytes(2, "attention")].concat();
        for name in ["query", "key", "value"] {
            graph.extend(value(11, name, 1, &[None, width]));
        }
        graph.extend([value(11, "slots", 7, &[None]), value(11, "positions", 7, &[None])].concat());
        graph.extend(value(12, "context", 1, &[None, width]));
        let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
        [number(1, 9), bytes(7, graph), opset("", 20), opset("easel", 1)].concat()
    }
}

struct Case {
    geometry: Geometry,
    layer: usize,
    mask: Mask,
    scale: f32,
    sequences: Vec<Sequence>,
}

/// What every position is given, [positions][query, key, value][heads · head_width], and the length of the prefix in the first sequence.
struct Sequence {
    tokens: Vec<[Vec<f32>; 3]>,
    prefix: usize,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let kernel = 1 + 2 * random.below(4);
        let mask = [Mask::Full, Mask::Row, Mask::Column, Mask::Convolution(kernel)][random.below(4)];
        let geometry = Geometry {
            layers: 1 + random.below(3),
            heads: 1 + random.below(3),
            head_width: 1 + random.below(40),
            text_length: 1 + random.below(9),
            rows: 1 + random.below(7),
            columns: 1 + random.below(9),
        };
        let width = geometry.heads * geometry.head_width;
        let mut token = || std::array::from_fn(|_| (0..width).map(|_| random.normal()).collect());
        let mut sequence = || (0..geometry.positions()).map(|_| token()).collect::<Vec<[Vec<f32>; 3]>>();
        let first = sequence();
        let mut sequences = vec![Sequence { tokens: first.clone(), prefix: 0 }];
        for prefix in [geometry.text_length, 0, 1, geometry.positions()] {
            let mut tokens = sequence();
            tokens[..prefix].clone_from_slice(&first[..prefix]);
            sequences.push(Sequence { tokens, prefix });
        }
        Self { geometry, layer: random.below(geometry.layers), mask, scale: 0.3, sequences }
    }

    /// What the operator gives for every sequence, [positions · width], fed in calls of `most` rows at most, chosen by `random`.
    fn run(&self, random: &mut Random, most: usize, threads: usize) -> Vec<Vec<f32>> {
        let width = self.geometry.heads * self.geometry.head_width;
        let shared = Shared::new(Pool::new(self.geometry, self.sequences.len()));
        let mut session = Session::builder(Runtime::load().unwrap().environment())
            .unwrap()
            .with_intra_threads(threads)
            .unwrap()
            .with_operators(shared.domain().unwrap())
            .unwrap()
            .commit_from_memory(&onnx::attention(self.geometry, self.layer, self.mask, self.scale))
            .unwrap();
        let mut contexts = vec![Vec::new(); self.sequences.len()];
        let mut feed = |slots: std::ops::Range<usize>| {
            loop {
                let rows = self.choose(&slots, &contexts, random, most);
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
        feed(0..1);
        for (slot, sequence) in self.sequences.iter().enumerate().skip(1) {
            let length = sequence.prefix as u32;
            let prefix = (length > 0).then_some(Prefix { slot: 0, length });
            shared.pool.lock().unwrap().begin(slot, prefix).unwrap();
        }
        feed(1..self.sequences.len());
        contexts
    }

    /// Some next tokens of some of these slots.
    fn choose(
        &self,
        slots: &std::ops::Range<usize>,
        contexts: &[Vec<f32>],
        random: &mut Random,
        most: usize,
    ) -> Vec<Row> {
        let width = self.geometry.heads * self.geometry.head_width;
        let mut next: Vec<usize> = self.sequences.iter().map(|s| s.prefix).collect();
        for (next, context) in next.iter_mut().zip(contexts) {
            *next += context.len() / width;
        }
        let mut rows = Vec::new();
        for _ in 0..=random.below(most) {
            let open: Vec<usize> = slots.clone().filter(|&slot| next[slot] < self.geometry.positions()).collect();
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
        let shape = [rows.len(), self.geometry.heads * self.geometry.head_width];
        let (query, key, value) = (given(0), given(1), given(2));
        let inputs = ort::inputs![
            "query" => TensorRef::from_array_view((shape, &*query)).unwrap(),
            "key" => TensorRef::from_array_view((shape, &*key)).unwrap(),
            "value" => TensorRef::from_array_view((shape, &*value)).unwrap(),
            "slots" => TensorRef::from_array_view(([rows.len()], &*slots)).unwrap(),
            "positions" => TensorRef::from_array_view(([rows.len()], &*positions)).unwrap(),
        ];
        session.run(inputs).unwrap()["context"].try_extract_tensor().unwrap().1.to_vec()
    }

    /// Whether position `q` reads position `k`, by the definition.
    fn sees(&self, q: usize, k: usize) -> bool {
        let Geometry { text_length, columns, .. } = self.geometry;
        if k > q || k < text_length {
            return k <= q;
        }
        let (q, k) = (q - text_length, k - text_length);
        match self.mask {
            Mask::Full => true,
            Mask::Row => q - k <= columns,
            Mask::Column => (q - k).is_multiple_of(columns),
            Mask::Convolution(kernel) => {
                (q / columns).abs_diff(k / columns) <= kernel / 2 && (q % columns).abs_diff(k % columns) <= kernel / 2
            }
        }
    }

    /// The context of one head of one token, in f64.
    fn reference(&self, tokens: &[[Vec<f32>; 3]], q: usize, head: usize) -> Vec<f64> {
        let width = self.geometry.head_width;
        let part = |position: usize, part: usize| &tokens[position][part][head * width..][..width];
        let keys: Vec<usize> = (0..self.geometry.positions()).filter(|&k| self.sees(q, k)).collect();
        let dot = |k: usize| part(q, 0).iter().zip(part(k, 1)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let weights: Vec<f64> = keys.iter().map(|&k| (dot(k) * f64::from(self.scale)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mixed = |j: usize| keys.iter().zip(&weights).map(|(&k, w)| w * f64::from(part(k, 2)[j])).sum::<f64>();
        (0..width).map(|j| mixed(j) / sum).collect()
    }

    fn hold_against_reference(&self, contexts: &[Vec<f32>]) {
        let Geometry { heads, head_width, .. } = self.geometry;
        for (sequence, contexts) in self.sequences.iter().zip(contexts) {
            let found = contexts.chunks_exact(head_width);
            assert_eq!(found.len(), (self.geometry.positions() - sequence.prefix) * heads);
            for (i, found) in found.enumerate() {
                let (q, head) = (sequence.prefix + i / heads, i % heads);
                for (expected, found) in self.reference(&sequence.tokens, q, head).iter().zip(found) {
                    let error = (expected - f64::from(*found)).abs();
                    assert!(
                        error <= 1e-5 * expected.abs().max(0.1),
                        "{:?} {:?} at {q}: {error}",
                        self.geometry,
                        self.mask
                    );
                }
            }
        }
    }
}

#[test]
fn every_mask_is_the_definition_on_random_geometries_and_ragged_rows() {
    let mut random = Random(1);
    for _ in 0..60 {
        let case = Case::random(&mut random);
        let contexts = case.run(&mut random, 24, 1);
        case.hold_against_reference(&contexts);
    }
}

#[test]
fn neither_company_nor_threads_nor_prefill_change_a_bit() {
    let mut random = Random(2);
    for _ in 0..20 {
        let case = Case::random(&mut random);
        let one_by_one = case.run(&mut random, 1, 1);
        assert!(case.run(&mut random, 40, 1) == one_by_one, "{:?} {:?}", case.geometry, case.mask);
        assert!(case.run(&mut random, 40, 2) == one_by_one, "{:?} {:?} on two threads", case.geometry, case.mask);
    }
}

#[test]
fn threads_are_used_and_change_nothing_when_there_is_much_to_do() {
    let mut random = Random(3);
    let mut case = Case::random(&mut random);
    case.geometry = Geometry { layers: 1, heads: 4, head_width: 64, text_length: 16, rows: 12, columns: 12 };
    (case.layer, case.mask) = (0, Mask::Full);
    let width = 256;
    let mut token = || std::array::from_fn(|_| (0..width).map(|_| random.normal()).collect());
    let tokens: Vec<[Vec<f32>; 3]> = (0..case.geometry.positions()).map(|_| token()).collect();
    case.sequences = vec![Sequence { tokens, prefix: 0 }];
    let contexts = case.run(&mut Random(4), 150, 2);
    case.hold_against_reference(&contexts);
    assert!(contexts == case.run(&mut Random(5), 1, 1));
}

#[test]
fn a_graph_of_another_geometry_is_refused() {
    let geometry = Geometry { layers: 2, heads: 2, head_width: 8, text_length: 3, rows: 2, columns: 2 };
    let load = |written: Geometry, layer: usize, mask: Mask| {
        let shared = Shared::new(Pool::new(geometry, 1));
        let bytes = onnx::attention(written, layer, mask, 1.0);
        let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
        let session = builder.with_operators(shared.domain().unwrap()).unwrap().commit_from_memory(&bytes);
        session.map(|_| shared).map_err(|error| error.to_string())
    };
    let refused = |written, layer, mask, message: &str| {
        let error = load(written, layer, mask).unwrap_err();
        assert!(error.contains(message), "{error}");
    };
    refused(Geometry { heads: 4, ..geometry }, 0, Mask::Row, "heads: expected 2, found 4");
    refused(Geometry { text_length: 4, ..geometry }, 0, Mask::Row, "text_length: expected 3, found 4");
    refused(Geometry { rows: 5, ..geometry }, 0, Mask::Row, "rows: expected 2, found 5");
    refused(Geometry { columns: 1, ..geometry }, 0, Mask::Row, "columns: expected 2, found 1");
    refused(geometry, 2, Mask::Row, "layer: expected 0 … 1, found 2");
    refused(geometry, 0, Mask::Convolution(0), "kernel: expected 1 … 65535");
    let shared = load(geometry, 1, Mask::Row).unwrap();
    let error = shared.check_layers("sampler.onnx").unwrap_err().to_string();
    assert_eq!(error, "sampler.onnx: attention of layer 0: expected one node, found 0");
}

#[test]
fn rows_outside_of_the_pool_are_an_error() {
    let geometry = Geometry { layers: 1, heads: 1, head_width: 4, text_length: 2, rows: 1, columns: 1 };
    let token = || std::array::from_fn(|_| vec![0.0; 4]);
    let sequence = || Sequence { tokens: (0..4).map(|_| token()).collect(), prefix: 0 };
    let case = Case { geometry, layer: 0, mask: Mask::Full, scale: 1.0, sequences: vec![sequence(), sequence()] };
    let shared = Shared::new(Pool::new(geometry, 2));
    shared.pool.lock().unwrap().begin(0, None).unwrap();
    let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
    let bytes = onnx::attention(geometry, 0, Mask::Full, 1.0);
    let mut session = builder.with_operators(shared.domain().unwrap()).unwrap().commit_from_memory(&bytes).unwrap();
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
    assert_eq!(run(0, 2, case.geometry.head_width), Ok(()));
    for (slot, position) in [(1, 0), (2, 0), (-1, 0), (i64::MAX, 0), (0, 3), (0, -1), (0, i64::MAX)] {
        let error = run(slot, position, 4).unwrap_err();
        assert!(error.contains("not those of the pool"), "{error}");
    }
}
