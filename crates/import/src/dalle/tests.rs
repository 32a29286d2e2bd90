//! The graphs' structure: what the engine relies on, read back from the files.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use prost::Message as _;

use crate::{
    ImportOptions, Weights, import,
    onnx::{AttributeProto, DataType, DimensionValue, GraphProto, ModelProto, ValueInfoProto},
    synthetic,
};

fn graphs(weights: Weights) -> BTreeMap<String, ModelProto> {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synthetic::checkpoint(from.path(), &synthetic::Geometry::default(), 1).unwrap();
    let options = ImportOptions { weights, ..ImportOptions::default() };
    import(from.path(), to.path(), &options, &mut |_| ()).unwrap();
    let graph = |name: &str| {
        let bytes = fs::read(to.path().join(format!("{name}.onnx"))).unwrap();
        let model = ModelProto::decode(bytes.as_slice()).unwrap();
        assert_eq!(model.encode_to_vec(), bytes, "{name}: every byte is of a message that is known here");
        (name.to_owned(), model)
    };
    ["sampler", "decoder", "encoder", "ranker_image", "ranker_text"].map(graph).into()
}

/// Name, type and axes.
fn signature(values: &[ValueInfoProto]) -> Vec<String> {
    let one = |value: &ValueInfoProto| {
        let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
        let axis = |value| match value {
            DimensionValue::Value(n) => format!("{n}"),
            DimensionValue::Param(name) => name,
        };
        let shape: Vec<String> =
            tensor.shape.clone().unwrap().dim.into_iter().map(|d| axis(d.value.unwrap())).collect();
        format!("{} {:?} {}", value.name, tensor.elem_type(), shape.join("×"))
    };
    values.iter().map(one).collect()
}

fn attribute<'a>(attributes: &'a [AttributeProto], name: &str) -> &'a AttributeProto {
    attributes.iter().find(|a| a.name == name).unwrap()
}

/// Every value is defined once, before it is used.
fn assert_ordered(graph: &GraphProto) {
    let mut defined: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(defined.len(), graph.initializer.len());
    graph.input.iter().for_each(|v| assert!(defined.insert(&v.name)));
    let mut names = BTreeSet::new();
    for node in &graph.node {
        assert!(names.insert(&node.name), "{} is named once", node.name);
        node.input.iter().for_each(|i| assert!(defined.contains(i.as_str()), "{}: {i}", node.name));
        node.output.iter().for_each(|o| assert!(defined.insert(o), "{o} is defined once"));
    }
    graph.output.iter().for_each(|v| assert!(defined.contains(v.name.as_str())));
}

#[test]
fn the_graphs_have_the_contracts_inputs_and_outputs() {
    for weights in [Weights::F32, Weights::F16] {
        let graphs = graphs(weights);
        let owned = |s: &[&str]| s.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let check = |name: &str, inputs: &[&str], outputs: &[&str]| {
            let graph = graphs[name].graph.as_ref().unwrap();
            assert_eq!((signature(&graph.input), signature(&graph.output)), (owned(inputs), owned(outputs)), "{name}");
            assert_ordered(graph);
        };
        let rows = ["token_ids Int64 n", "positions Int64 n", "slots Int64 n", "logit_rows Int64 m"];
        check("sampler", &rows, &["logits Float m×200"]);
        check("decoder", &["tokens Int64 b×36"], &["pixels Uint8 b×48×48×3"]);
        check("encoder", &["pixels Uint8 b×48×48×3"], &["tokens Int64 b×36"]);
        check("ranker_image", &["pixels Uint8 b×32×32×3"], &["embeddings Float b×24"]);
        check("ranker_text", &["token_ids Int64 b×20"], &["embeddings Float b×24"]);
    }
}

#[test]
fn every_layer_attends_by_our_operator_with_its_own_mask() {
    let graphs = graphs(Weights::F16);
    let sampler = &graphs["sampler"];
    let domains: Vec<&str> = sampler.opset_import.iter().map(|o| o.domain.as_deref().unwrap()).collect();
    assert_eq!(domains, ["", "easel"]);
    let nodes = sampler.graph.as_ref().unwrap().node.iter().filter(|n| n.domain == "easel");
    let mut masks = vec![];
    for (i, node) in nodes.enumerate() {
        assert_eq!((node.op_type.as_str(), node.input.len(), node.output.len()), ("Attention", 5, 1));
        assert_eq!(node.input[3..], ["slots", "positions"]);
        let int = |name: &str| attribute(&node.attribute, name).i.unwrap();
        assert_eq!(["layer", "heads", "text_length", "rows", "columns"].map(int), [i as i64, 2, 16, 6, 6]);
        assert_eq!(attribute(&node.attribute, "scale").f, Some(1.5 * 0.25));
        let mask = String::from_utf8(attribute(&node.attribute, "mask").s.clone().unwrap()).unwrap();
        assert_eq!(node.attribute.iter().any(|a| a.name == "kernel"), mask == "conv");
        masks.push(mask);
    }
    assert_eq!(masks, ["row", "column", "conv", "full"]);
}

#[test]
fn weights_are_stored_as_asked_and_vectors_always_in_full() {
    for (weights, expected) in [(Weights::F32, DataType::Float), (Weights::F16, DataType::Float16)] {
        for (name, model) in graphs(weights) {
            for tensor in &model.graph.as_ref().unwrap().initializer {
                let wide = if tensor.name.ends_with(".weight") && tensor.dims.len() > 1 {
                    expected
                } else {
                    tensor.data_type()
                };
                assert_eq!(tensor.data_type(), wide, "{name}: {}", tensor.name);
                assert!(tensor.dims.len() > 1 || tensor.data_type() != DataType::Float16, "{name}: {}", tensor.name);
            }
        }
    }
}
