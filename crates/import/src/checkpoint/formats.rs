//! Files that PyTorch wrote (`tests/fixtures/torch/make.py`), read back.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{Checkpoint, Part};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)
}

fn values(part: &Part, key: &str) -> Vec<f32> {
    part.entries()[key].values().unwrap_or_else(|| panic!("{key} has no floats")).unwrap()
}

fn count(n: u8) -> Vec<f32> {
    (0..n).map(f32::from).collect()
}

fn assert_state(part: &Part, types: usize) {
    assert_eq!(values(part, "plain"), count(12));
    let transposed = [0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0];
    assert_eq!((values(part, "transposed"), &part.entries()["transposed"].shape), (transposed.to_vec(), &vec![3, 4]));
    assert_eq!((values(part, "tail"), &part.entries()["tail"].shape), (vec![6.0, 7.0, 10.0, 11.0], &vec![2, 2]));
    assert_eq!(values(part, "tied"), count(12));
    assert_eq!(values(part, "row"), [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]);
    assert_eq!((values(part, "scalar"), part.entries()["scalar"].shape.len()), (vec![2.5], 0));
    for key in ["half", "bfloat", "double", "parameter", "eight", "eight_wide"].into_iter().take(types) {
        assert_eq!(values(part, key), count(4), "{key}");
    }
    for (key, shown) in [("long", "I64"), ("byte", "U8"), ("flag", "BOOL")] {
        assert!(part.entries()[key].values().is_none(), "{key} holds no floats");
        assert_eq!(part.entries()[key].dtype.to_string(), shown);
    }
}

#[test]
fn a_state_dict_in_each_format_has_the_same_tensors() {
    assert_state(&Part::open(&fixture("state.pt")).unwrap(), 6);
    assert_state(&Part::open(&fixture("deflated.pt")).unwrap(), 6);
    assert_state(&Part::open(&fixture("state.old.pt")).unwrap(), 4);
    let lightning = Part::open(&fixture("lightning.ckpt")).unwrap();
    assert_state(&lightning, 4);
    let hyper = json!({"__class__": "argparse.Namespace", "lr": 0.001, "name": "x"});
    assert_eq!(lightning.beside(), &json!({"hyper_parameters": hyper, "epoch": 3}));
}

#[test]
fn whole_modules_have_the_keys_of_their_state_dicts() {
    let keys = ["blocks.0.weight", "blocks.1.weight", "inner.weight"];
    for name in ["module.pkl", "module.old.pkl", "script.pt", "nested.pt"] {
        let part = Part::open(&fixture(name)).unwrap();
        for key in keys {
            assert_eq!(values(&part, key), count(6), "{name}: {key}");
        }
        let all: Vec<_> = part.entries().keys().filter(|key| !key.ends_with("steps")).collect();
        assert_eq!(all, keys, "{name}");
        let width = part.beside()["width"].as_u64();
        assert!(name == "nested.pt" || width == Some(3), "{name}: {}", part.beside());
    }
    let nested = Part::open(&fixture("nested.pt")).unwrap();
    let hparams = json!({"dim": 64, "depth": 2, "reversible": false, "attn_types": ["full", "axial_row"], "rate": 0.5});
    assert_eq!(nested.beside(), &json!({"hparams": hparams, "vae_params": null, "version": "1.6.6"}));
}

#[test]
fn shards_are_one_part() {
    for folder in ["shards/safetensors", "shards/bin"] {
        let checkpoint = Checkpoint::open(&fixture(folder)).unwrap();
        let parts: Vec<Part> = checkpoint.parts().map(Result::unwrap).collect();
        assert_eq!(parts.len(), 1, "{folder}");
        assert_eq!((values(&parts[0], "a.weight"), values(&parts[0], "b.weight")), (count(4), count(6)));
        let mut total = 0;
        let mut read = |bytes| total += bytes;
        let mut tensors = parts[0].tensors("b.", &mut read);
        assert_eq!(tensors.take("weight", &[2, 3]).unwrap().values, count(6));
        tensors.finish(None).unwrap();
        assert_eq!((total, parts[0].bytes()), (24, 40));
    }
}

#[test]
fn shards_that_do_not_fit_together_are_refused() {
    let folder = |source: &str| {
        let dir = tempfile::tempdir().unwrap();
        for file in fs::read_dir(fixture(source)).unwrap() {
            let path = file.unwrap().path();
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        dir
    };
    let refused = |dir: &Path| {
        let checkpoint = Checkpoint::open(dir);
        let error = checkpoint.and_then(|c| c.parts().collect::<Result<Vec<_>, _>>().map(drop)).unwrap_err();
        error.to_string().replace(&format!("{}/", dir.display()), "")
    };
    let (list, second) = ("model.safetensors.index.json", "model-00002-of-00002.safetensors");
    let missing = folder("shards/safetensors");
    fs::remove_file(missing.path().join(second)).unwrap();
    assert!(refused(missing.path()).starts_with(&format!("{second}: No such file")));
    fs::remove_file(missing.path().join(list)).unwrap();
    let expected = "model-00001-of-00002.safetensors: expected 2 shards of this name, found 1";
    assert_eq!(refused(missing.path()), expected);

    let listed = folder("shards/safetensors");
    let write = |map: &str| fs::write(listed.path().join(list), format!(r#"{{"weight_map": {map}}}"#)).unwrap();
    write(&format!(r#"{{"a.weight": "model-00001-of-00002.safetensors", "c.weight": "{second}"}}"#));
    let expected = "model.safetensors.index.json: tensor c.weight: expected the tensor that the list of shards names";
    assert!(refused(listed.path()).starts_with(expected), "{}", refused(listed.path()));
    for map in ["{}", "[]", r#"{"a": 1}"#, r#"{"a": "../x.safetensors"}"#, r#"{"a": "x.txt"}"#] {
        write(map);
        let expected = "model.safetensors.index.json: weight_map: expected names of files beside it, by key, found ";
        assert!(refused(listed.path()).starts_with(expected), "{map}");
    }
    fs::remove_file(listed.path().join(list)).unwrap();
    assert_eq!(Checkpoint::open(listed.path()).unwrap().parts().count(), 1, "names tell it without a list");
    fs::copy(listed.path().join("model-00001-of-00002.safetensors"), listed.path().join(second)).unwrap();
    assert!(refused(listed.path()).contains("expected a tensor of one shard only, found one of another"));
}

#[test]
fn one_shard_stands_for_all_and_a_file_for_itself() {
    for name in ["model-00002-of-00002.safetensors", "model.safetensors.index.json"] {
        let checkpoint = Checkpoint::open(&fixture(&format!("shards/safetensors/{name}"))).unwrap();
        assert_eq!(checkpoint.parts().next().unwrap().unwrap().entries().len(), 2, "{name}");
    }
    let checkpoint = Checkpoint::open(&fixture("nested.pt")).unwrap();
    assert_eq!((checkpoint.given().count(), checkpoint.config()), (1, &serde_json::Value::Null));
    assert_eq!(checkpoint.file(&["nowhere", "script.pt"]), Some(fixture("script.pt")));
}

#[test]
fn of_two_files_that_would_both_do_one_must_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let [nine, ten, safe] = ["epoch_9.pt", "epoch_10.pt", "model.safetensors"].map(|name| dir.path().join(name));
    fs::copy(fixture("state.pt"), &nine).unwrap();
    fs::copy(fixture("state.pt"), &ten).unwrap();
    let found = |path: &Path| Checkpoint::open(path)?.part_with(&["plain", "row"]).map(|part| part.path().to_owned());
    let error = found(dir.path()).unwrap_err().to_string();
    let expected =
        "expected one file with weights with plain, row; give the one that is meant, found epoch_10.pt and epoch_9.pt";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(found(&nine).unwrap(), nine);
    fs::copy(fixture("shards/safetensors/model-00001-of-00002.safetensors"), &safe).unwrap();
    assert_eq!(found(&ten).unwrap(), ten);
    let beside = Checkpoint::open(&ten).unwrap().part_with(&["a.weight"]).unwrap();
    assert_eq!(beside.path(), safe, "what the file lacks is beside it");
}

#[test]
fn what_cannot_be_read_stands_in_nobodys_way_unless_it_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a_state_of_the_training.bin"), "no weights").unwrap();
    let refused =
        |key: &str| Checkpoint::open(dir.path()).unwrap().part_with(&[key]).map(drop).unwrap_err().to_string();
    let damaged = "a_state_of_the_training.bin: not a usable PyTorch file";
    assert!(refused("plain").contains(damaged));
    fs::copy(fixture("state.pt"), dir.path().join("state.pt")).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.part_with(&["plain", "row"]).unwrap().path(), dir.path().join("state.pt"));
    assert!(refused("strange").contains(damaged), "it may be in there");
    fs::remove_file(dir.path().join("a_state_of_the_training.bin")).unwrap();
    assert!(refused("strange").ends_with("expected weights with strange, found none"));
}

#[test]
fn a_configuration_may_be_yaml() {
    let dir = tempfile::tempdir().unwrap();
    let config = |yaml: &str| {
        fs::write(dir.path().join("model.yaml"), yaml).unwrap();
        Checkpoint::open(dir.path()).map(|checkpoint| checkpoint.config().clone()).map_err(|error| error.to_string())
    };
    let text = "model:\n  params: &p\n    ch_mult: [1, 2]\n    resolution: 256\n  again: *p\n";
    let params = json!({"ch_mult": [1, 2], "resolution": 256});
    assert_eq!(config(text), Ok(json!({"model": {"params": params, "again": params}})));
    let laughs: String = (1..40).map(|i| format!("a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1)).collect();
    assert!(config(&format!("a0: &a0 x\n{laughs}")).unwrap_err().contains("model.yaml: expected YAML, found "));
    assert!(config(&"[".repeat(10_000)).unwrap_err().contains("expected YAML"));
    fs::write(dir.path().join("other.yaml"), "a: 1").unwrap();
    assert_eq!(config("a: 2"), Ok(serde_json::Value::Null), "which of the two is meant is not said");
    fs::write(dir.path().join("config.json"), r#"{"a": 3}"#).unwrap();
    assert_eq!(config("a: 2"), Ok(json!({"a": 3})));
}

#[test]
fn a_field_of_another_kind_is_named() {
    #[derive(Debug, serde::Deserialize)]
    #[allow(dead_code)]
    struct Sizes {
        dim: usize,
        depth: usize,
        #[serde(default)]
        kinds: Option<Vec<String>>,
    }
    let refused = |field: &str, value: serde_json::Value| {
        super::parse::<Sizes>(Path::new("x.pt"), field, &value).unwrap_err().to_string()
    };
    assert!(super::parse::<Sizes>(Path::new("x"), "", &json!({"dim": 1, "depth": 2, "other": null})).is_ok());
    for (value, expected) in [
        (json!({"dim": "64", "depth": 2}), r#"dim: expected a whole number, at least 0, found "64""#),
        (json!({"dim": 1, "depth": -2}), "depth: expected a whole number, at least 0, found -2"),
        (json!({"dim": 1}), "depth: expected a value, found none"),
        (json!({"dim": 1, "depth": 2, "kinds": [3]}), "kinds: expected a string, found [3]"),
    ] {
        assert_eq!(refused("hparams", value.clone()), format!("x.pt: hparams.{expected}"));
        assert_eq!(refused("", value), format!("x.pt: {expected}"));
    }
    assert_eq!(refused("", json!(null)), "x.pt: expected the model's configuration, found none");
    assert_eq!(refused("hparams", json!([1])), "x.pt: hparams: expected the model's, as a mapping, found [1]");
}
