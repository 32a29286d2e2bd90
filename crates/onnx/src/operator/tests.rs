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

    pub(super) fn attention(written: &super::Written) -> Vec<u8> {
        let g = written.geometry;
        let (mask, kernel) = match written.mask {
            super::Mask::Full => ("full", 0),
            super::Mask::Row => ("row", 0),
            super::Mask::Column => ("column", 0),
            super::Mask::Convolution(kernel) => ("conv", kernel),
            super::Mask::AxialRow => ("axial_row", 0),
            super::Mask::Corner(kernel) => ("corner", kernel),
        };
        let inputs = ["query", "key", "value", "slots", "positions"];
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| bytes(1, name)).collect();
        node.extend([bytes(2, "context"), bytes(4, "Attention"), bytes(7, "easel")].concat());
        let ints = [("layer", written.layer), ("heads", g.heads), ("text_length", g.text_length), ("rows", g.rows)];
        node.extend(ints.iter().chain(&[("columns", g.columns), ("kernel", kernel)]).flat_map(|(n, v)| int(n, *v)));
        if written.query_heads != g.heads {
            node.extend(int("query_heads", written.query_heads));
        }
        if written.mask_text_length != g.text_length {
            node.extend(int("mask_text_length", written.mask_text_length));
        }
        let text = if written.hidden { "hidden" } else { "seen" };
        for (name, text) in [("mask", mask), ("text", text)] {
            node.extend(bytes(5, [bytes(1, name), bytes(4, text), number(20, 3)].concat()));
        }
        let mut float = [bytes(1, "scale"), vec![2 << 3 | 5]].concat();
        float.extend([written.scale.to_le_bytes().to_vec(), number(20, 1)].concat());
        node.extend(bytes(5, float));
        let (width, queries) = (Some(g.heads * g.head_width), Some(written.query_heads * g.head_width));
        let mut graph = [bytes(1, node), bytes(2, "attention")].concat();
        for (name, width) in [("query", queries), ("key", width), ("value", width)] {
            graph.extend(value(11, name, 1, &[None, width]));
        }
        graph.extend([value(11, "slots", 7, &[None]), value(11, "positions", 7, &[None])].concat());
        graph.extend(value(12, "context", 1, &[None, queries]));
        let opset = |domain: &str, version| bytes(8, [bytes(1, domain), number(2, version)].concat());
        [number(1, 9), bytes(7, graph), opset("", 20), opset("easel", 1)].concat()
    }
}

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
        let masks =
            [Mask::Full, Mask::Row, Mask::Column, Mask::Convolution(kernel), Mask::AxialRow, Mask::Corner(kernel)];
        let geometry = Geometry {
            layers: 1 + random.below(3),
            heads: 1 + random.below(3),
            head_width: 1 + random.below(40),
            text_length: 1 + random.below(9),
            rows: 1 + random.below(7),
            columns: 1 + random.below(9),
            ragged: random.below(2) == 0,
            ..NONE
        };
        let node = Written {
            query_heads: geometry.heads * (1 + random.below(3)),
            mask_text_length: geometry.text_length - usize::from(random.below(4) == 0),
            hidden: random.below(4) == 0,
            scale: 0.3,
            ..Written::plain(geometry, random.below(geometry.layers), masks[random.below(6)])
        };
        let width = geometry.heads * geometry.head_width;
        let widths = [node.query_heads * geometry.head_width, width, width];
        let mut token = || widths.map(|width| (0..width).map(|_| random.normal()).collect());
        let mut sequence = || (0..geometry.positions()).map(|_| token()).collect::<Vec<[Vec<f32>; 3]>>();
        let mut tokens: Vec<_> = (0..5).map(|_| sequence()).collect();
        let firsts = [0; 2].map(|_| if geometry.ragged { random.below(geometry.text_length) } else { 0 });
        let mut sequences = Vec::new();
        for (i, prefix) in [0, geometry.text_length, 0, firsts[0] + 1, geometry.positions()].into_iter().enumerate() {
            let first = firsts[usize::from(i == 2)];
            let (shared, own) = tokens.split_at_mut(i);
            own[0][..prefix].clone_from_slice(shared.first().map_or(&[][..], |first| &first[..prefix]));
            sequences.push(Sequence { tokens: own[0].clone(), first, prefix });
        }
        Self { node, sequences }
    }

    /// What the operator gives for every sequence, [positions · width], fed in calls of `most` rows at most, chosen by `random`.
    fn run(&self, random: &mut Random, most: usize, threads: usize) -> Vec<Vec<f32>> {
        let width = self.width();
        let shared = Shared::new(Pool::new(self.node.geometry, self.sequences.len()));
        let mut session = Session::builder(Runtime::load().unwrap().environment())
            .unwrap()
            .with_intra_threads(threads)
            .unwrap()
            .with_operators(shared.domain().unwrap())
            .unwrap()
            .commit_from_memory(&onnx::attention(&self.node))
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

    /// Numbers of a row's context.
    fn width(&self) -> usize {
        self.node.query_heads * self.node.geometry.head_width
    }

    /// Some next tokens of some of these slots.
    fn choose(
        &self,
        slots: &std::ops::Range<usize>,
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
            let open: Vec<usize> = slots.clone().filter(|&slot| next[slot] < self.node.geometry.positions()).collect();
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
        let Written { mask_text_length: text_length, geometry: Geometry { columns, .. }, .. } = self.node;
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
            Mask::Convolution(kernel) => above <= kernel / 2 && (q % columns).abs_diff(k % columns) <= kernel / 2,
        }
    }

    /// The context of one head of one token, in f64.
    fn reference(&self, sequence: &Sequence, q: usize, head: usize) -> Vec<f64> {
        let Geometry { head_width: width, heads, .. } = self.node.geometry;
        let key_head = head / (self.node.query_heads / heads);
        let part =
            |position: usize, part: usize, head: usize| &sequence.tokens[position][part][head * width..][..width];
        let keys: Vec<usize> = (0..=q).filter(|&k| self.sees(sequence.first, q, k)).collect();
        let query = part(q, 0, head);
        let dot =
            |k: usize| query.iter().zip(part(k, 1, key_head)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let weights: Vec<f64> = keys.iter().map(|&k| (dot(k) * f64::from(self.node.scale)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mixed =
            |j: usize| keys.iter().zip(&weights).map(|(&k, w)| w * f64::from(part(k, 2, key_head)[j])).sum::<f64>();
        (0..width).map(|j| mixed(j) / sum).collect()
    }

    fn hold_against_reference(&self, contexts: &[Vec<f32>]) {
        let (heads, head_width) = (self.node.query_heads, self.node.geometry.head_width);
        for (sequence, contexts) in self.sequences.iter().zip(contexts) {
            let found = contexts.chunks_exact(head_width);
            assert_eq!(found.len(), (self.node.geometry.positions() - sequence.begin()) * heads);
            for (i, found) in found.enumerate() {
                let (q, head) = (sequence.begin() + i / heads, i % heads);
                for (expected, found) in self.reference(sequence, q, head).iter().zip(found) {
                    let error = (expected - f64::from(*found)).abs();
                    assert!(error <= 1e-5 * expected.abs().max(0.1), "{:?} at {q}: {error}", self.node);
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
        assert!(case.run(&mut random, 40, 1) == one_by_one, "{:?}", case.node);
        assert!(case.run(&mut random, 40, 2) == one_by_one, "{:?} on two threads", case.node);
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
    let contexts = case.run(&mut Random(4), 150, 2);
    case.hold_against_reference(&contexts);
    assert!(contexts == case.run(&mut Random(5), 1, 1));
}

#[test]
fn a_graph_of_another_geometry_is_refused() {
    let geometry = Geometry { layers: 2, heads: 2, head_width: 8, text_length: 3, rows: 2, columns: 2, ..NONE };
    let load = |written: &Written| {
        let shared = Shared::new(Pool::new(geometry, 1));
        let bytes = onnx::attention(written);
        let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
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
    let shared = Shared::new(Pool::new(geometry, 2));
    shared.pool.lock().unwrap().begin(0, None).unwrap();
    let builder = Session::builder(Runtime::load().unwrap().environment()).unwrap();
    let bytes = onnx::attention(&Written::plain(geometry, 0, Mask::Full));
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
    assert_eq!(run(0, 2, geometry.head_width), Ok(()));
    for (slot, position) in [(1, 0), (2, 0), (-1, 0), (i64::MAX, 0), (0, 3), (0, -1), (0, i64::MAX)] {
        let error = run(slot, position, 4).unwrap_err();
        assert!(error.contains("not those of the pool"), "{error}");
    }
}
