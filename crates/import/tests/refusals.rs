//! A damaged checkpoint is refused with the file, what was expected and what was found, and leaves nothing behind.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use easel_import::{Family, ImportOptions, import, synthetic};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Name, shape and bytes of each tensor of a file.
type Parts = Vec<(String, Vec<usize>, Vec<u8>)>;

/// A good checkpoint, to be damaged.
struct Checkpoint {
    dir: TempDir,
}

impl Checkpoint {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        synthetic::checkpoint(dir.path(), &synthetic::Geometry::default(), 1).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes a JSON file.
    fn json(self, name: &str, change: impl Fn(&mut Value)) -> Self {
        let mut value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        change(&mut value);
        fs::write(self.path(name), value.to_string()).unwrap();
        self
    }

    fn config(self, pointer: &str, value: Value) -> Self {
        self.json("config.json", |config| *config.pointer_mut(pointer).unwrap() = value.clone())
    }

    /// Changes a file of tensors.
    fn tensors(self, name: &str, change: impl Fn(&mut Parts)) -> Self {
        let bytes = fs::read(self.path(name)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> =
            file.tensors().into_iter().map(|(n, v)| (n, v.shape().to_vec(), v.data().to_vec())).collect();
        change(&mut tensors);
        let view = |(name, shape, data)| -> (&String, TensorView<'_>) {
            let (shape, data): (&Vec<usize>, &Vec<u8>) = (shape, data);
            (name, TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
        };
        let views: Vec<_> = tensors.iter().map(|(n, s, d)| view((n, s, d))).collect();
        fs::write(self.path(name), safetensors::serialize(views, None).unwrap()).unwrap();
        self
    }

    fn bytes(self, name: &str, change: impl Fn(&mut Vec<u8>)) -> Self {
        let mut bytes = fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// The import fails with this message, in which the folder is left out, and leaves nothing.
    #[track_caller]
    fn refused(self, expected: &str) {
        let to = tempfile::tempdir().unwrap();
        let error = import(self.dir.path(), &to.path().join("p"), &ImportOptions::default(), &mut |_| ()).unwrap_err();
        let folder = self.dir.path().display().to_string();
        let message = error.to_string().replace(&format!("{folder}/"), "").replace(&folder, "{folder}");
        assert!(message.starts_with(expected), "expected {expected:?}, found {message:?}");
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "nothing is left behind");
    }
}

#[test]
fn files_that_are_missing_or_of_another_kind() {
    for name in
        ["config.json", "tokenizer.json", "ranker_tokenizer.json", "transformer.safetensors", "clip.safetensors"]
    {
        let checkpoint = Checkpoint::new();
        fs::remove_file(checkpoint.path(name)).unwrap();
        checkpoint.refused(&format!("{name}: No such file"));
    }
    let checkpoint = Checkpoint::new();
    fs::remove_file(checkpoint.path("dvae.safetensors")).unwrap();
    fs::create_dir(checkpoint.path("dvae.safetensors")).unwrap();
    checkpoint.refused("dvae.safetensors: expected a regular file, found another kind");
}

#[test]
fn configurations_that_make_no_sense() {
    let config = |pointer: &str, value: Value| Checkpoint::new().config(pointer, value);
    config("/family", json!("imagen")).refused("config.json: family: expected one of dalle, dalle-pytorch, janus,");
    config("/family", json!("clip"))
        .refused("{folder}: expected a checkpoint of one of the families dalle, dalle-pytorch, ");
    config("/name", json!("../x")).refused("config.json: name: expected 1 … 64 of a-z");
    config("/transformer/width", json!(1_000_000_000))
        .refused("config.json: transformer.width: expected 1 … 16384, found 1000000000");
    config("/transformer/heads", json!(3)).refused("config.json: transformer.heads: expected a divisor of 32, found 3");
    config("/transformer/layers", json!(5))
        .refused("config.json: transformer.masks (one per layer): expected 5, found 4");
    config("/transformer/masks/0", json!("spiral")).refused("config.json: unknown variant `spiral`");
    config("/transformer/conv_kernel", json!(4))
        .refused("config.json: transformer.conv_kernel: expected an odd number, found 4");
    config("/transformer/grid", json!([1024, 1024]))
        .refused("config.json: transformer.grid · dvae.encoder.patch: expected 48, found 8192");
    config("/transformer/qk_scale", json!(0)).refused("config.json: transformer.qk_scale");
    config("/dvae/quantizer/levels", json!([8, 5]))
        .refused("config.json: dvae.quantizer.levels (their product): expected 200, found 40");
    config("/dvae/quantizer/levels", json!(vec![256; 20]))
        .refused("config.json: dvae.quantizer.levels (their product): expected 200");
    config("/dvae/encoder/input_kernel", json!(2))
        .refused("config.json: dvae.encoder.input_kernel: expected an odd number, found 2");
    config("/dvae/encoder/norm", json!("batch")).refused("config.json: unknown variant `batch`");
    config("/dvae/decoder/output_shuffle", json!(2))
        .refused("config.json: transformer.grid · 2^(stages − 1) · output_shuffle: expected 48, found 24");
    config("/clip/std/1", json!(0)).refused("config.json: clip.std[1]");
    config("/sampling/top_p", json!(1.5)).refused("config.json: sampling.top_p");
    config("/transformer/width", json!(-1)).refused("config.json: invalid value: integer `-1`");
    let unknown = Checkpoint::new().json("config.json", |c| c["transformer"]["rotary"] = json!(true));
    unknown.refused("config.json: unknown field `rotary`");
}

#[test]
fn tensors_that_are_missing_misshapen_or_too_many() {
    let file = "transformer.safetensors";
    let damaged = |change: &dyn Fn(&mut Parts)| Checkpoint::new().tensors(file, change);
    damaged(&|t| t.retain(|(name, ..)| name != "layers.2.mlp.up.weight")).refused(
        "transformer.safetensors: tensor layers.2.mlp.up.weight: expected shape [128, 32], found no such tensor",
    );
    damaged(&|t| t.iter_mut().filter(|(n, ..)| n == "norm.bias").for_each(|t| t.1 = vec![4, 8]))
        .refused("transformer.safetensors: tensor norm.bias: expected shape [32], found shape [4, 8]");
    damaged(&|t| t.push(("layers.4.norm".into(), vec![1], vec![0; 4])))
        .refused("transformer.safetensors: expected no other tensors, found layers.4.norm");
    damaged(&|t| {
        t.iter_mut()
            .filter(|(n, ..)| n == "norm.bias")
            .for_each(|t| t.2[..4].copy_from_slice(&f32::INFINITY.to_le_bytes()))
    })
    .refused("transformer.safetensors: tensor norm.bias: expected finite numbers, found inf");
    damaged(&|t| {
        t.iter_mut()
            .filter(|(n, ..)| n == "image_head.weight")
            .for_each(|t| t.2[..4].copy_from_slice(&1e6_f32.to_le_bytes()))
    })
    .refused("image_head.weight: 1000000 does not fit 16-bit floats");
    Checkpoint::new()
        .tensors("clip.safetensors", |t| t.retain(|(name, ..)| name != "visual.transformer.resblocks.0.ln_1.weight"))
        .refused("clip.safetensors: expected no other tensors, found visual.transformer.resblocks.0");
    Checkpoint::new().config("/clip/vision_heads", json!(5)).refused(
        "clip.safetensors: tensor visual.conv1.weight: expected a width that clip.vision_heads 5 divides, found 32",
    );
}

#[test]
fn a_layout_that_does_not_fit_the_ranker_is_refused() {
    let refused = |width: usize, squares: usize, scale: f32, reason: &str| {
        let numbers = |shape: &[usize]| vec![0; 4 * shape.iter().product::<usize>()];
        let layout = [("weight", vec![width, 3, squares, squares]), ("bias", vec![width])];
        Checkpoint::new()
            .tensors("clip.safetensors", |t| {
                t.extend(layout.iter().map(|(n, s)| (format!("visual.layout.{n}"), s.clone(), numbers(s))));
                t.push(("visual.layout.scale".into(), vec![], scale.to_le_bytes().into()));
            })
            .refused(&format!("clip.safetensors: tensor visual.layout.{reason}"));
    };
    refused(24, 2, 1.0, "weight: expected fewer numbers than the 24 of text_projection, found 24");
    refused(4, 7, 1.0, "weight: expected a number of squares that divides clip.image_size");
    refused(4, 2, 0.0, "scale: expected 0.001 to 1000, found 0");
}

#[test]
fn an_encoder_of_which_nothing_else_is_said_sees_around_its_cells() {
    let import = |checkpoint: &Checkpoint| {
        let to = tempfile::tempdir().unwrap();
        let package = import(checkpoint.dir.path(), to.path(), &ImportOptions::default(), &mut |_| ()).unwrap();
        package.digest().to_owned()
    };
    let older = Checkpoint::new().json("config.json", |config| {
        let encoder = config["dvae"]["encoder"].as_object_mut().unwrap();
        assert_eq!((encoder.remove("input_kernel"), encoder.remove("norm")), (Some(json!(3)), Some(json!("picture"))));
    });
    assert_eq!(import(&older), import(&Checkpoint::new()));
}

#[test]
fn the_head_that_only_training_needs_is_ignored() {
    let more = Checkpoint::new()
        .tensors("transformer.safetensors", |t| t.push(("text_head.weight".into(), vec![1], vec![0; 4])));
    let to = tempfile::tempdir().unwrap();
    import(more.dir.path(), to.path(), &ImportOptions::default(), &mut |_| ()).unwrap();
}

#[test]
fn files_that_are_not_safetensors() {
    let name = "dvae.safetensors";
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| Checkpoint::new().bytes(name, change);
    damaged(&Vec::clear).refused("dvae.safetensors: not a safetensors file: header too small");
    damaged(&|b| b.truncate(b.len() / 2))
        .refused("dvae.safetensors: expected 119220 bytes, as its header says, found 59610");
    damaged(&|b| b[..8].fill(0xff)).refused("dvae.safetensors: not a safetensors file: header too large");
    damaged(&|b| b[8] = b'[').refused("dvae.safetensors: not a safetensors file: invalid JSON in header");
}

#[test]
fn vocabularies_that_the_services_could_not_use() {
    let json = |name: &str, change: &dyn Fn(&mut Value)| Checkpoint::new().json(name, change);
    json("tokenizer.json", &|t| t["padding"] = json!({})).refused("tokenizer.json: expected padding null");
    json("tokenizer.json", &|t| t["model"]["vocab"]["zebra"] = json!(268))
        .refused("tokenizer.json: expected ids below 268, found id 268");
    json("tokenizer.json", &|t| t["model"] = json!({}))
        .refused("tokenizer.json: expected a vocabulary in model.vocab, found none");
    json("tokenizer.json", &|t| t["post_processor"] = json!({"type": "TemplateProcessing"}))
        .refused("tokenizer.json: expected a post_processor that adds no tokens");
    json("ranker_tokenizer.json", &|t| t["post_processor"] = Value::Null)
        .refused("ranker_tokenizer.json: expected a post_processor that ends with the highest id, 269, found null");
    Checkpoint::new()
        .config("/clip/pad", json!(269))
        .refused("ranker_tokenizer.json: expected an end token above the pad 269");
    let words = |text: &'static str| Checkpoint::new().bytes("words.txt", |b| *b = text.as_bytes().to_vec());
    words("red\nBlue\n").refused("words.txt: expected one lower-case word a line, found \"Blue\"");
    words("red\n\n").refused("words.txt: expected one lower-case word a line, found \"\"");
}

#[test]
fn a_checkpoint_that_is_not_there() {
    let error =
        import(Path::new("no/such/checkpoint"), Path::new("p"), &ImportOptions::default(), &mut |_| ()).unwrap_err();
    assert!(error.to_string().starts_with("no/such/checkpoint: "), "{error}");
}

#[test]
fn a_text_encoder_that_nobody_reads() {
    let (checkpoint, to) = (Checkpoint::new(), tempfile::tempdir().unwrap());
    let options = ImportOptions { text_encoder: Some("t5".into()), ..ImportOptions::default() };
    let error = import(checkpoint.dir.path(), &to.path().join("p"), &options, &mut |_| ()).unwrap_err().to_string();
    let expected = "t5: expected no text encoder of another project, as families other than llamagen read none, found one for dalle";
    assert_eq!(error, expected);
}

#[test]
fn a_family_that_it_is_not() {
    let (checkpoint, to) = (Checkpoint::new(), tempfile::tempdir().unwrap());
    for (told, expected) in
        [(Family::RuDalle, "with image_row_embeddings.weight, to_logits.1.weight"), (Family::Clip, "found one of clip")]
    {
        let options = ImportOptions { family: Some(told), ..ImportOptions::default() };
        let error = import(checkpoint.dir.path(), &to.path().join("p"), &options, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.ends_with(&format!("(told was the family {told}, the checkpoint looks like dalle)")), "{error}");
    }
}
