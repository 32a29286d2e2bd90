//! The committed bindings are what the contract generates.

use std::{fs, path::Path};

use prost::Message;

const FILES: [&str; 7] = [
    "easel/v1/types.proto",
    "easel/v1/tokenizer.proto",
    "easel/v1/sampler.proto",
    "easel/v1/decoder.proto",
    "easel/v1/ranker.proto",
    "easel/v1/status.proto",
    "easel/v1/gateway.proto",
];

#[test]
fn committed_bindings_equal_generated_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let on_disk = fs::read_dir(root.join("easel/v1")).expect("the contract's folder").count();
    assert_eq!(on_disk, FILES.len(), "a .proto file is missing from the list in this test");

    let mut descriptors = protox::compile(FILES.map(|f| root.join(f)), [root]).expect("the contract compiles");
    let out = tempfile::tempdir().expect("a temporary folder");
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".easel.v1.Picture.rgb8")
        .bytes(".easel.v1.EncodedImage.data")
        .out_dir(out.path())
        .compile_fds(descriptors.clone())
        .expect("bindings are generated");
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }

    let generated = fs::read(out.path().join("easel.v1.rs")).expect("generated bindings");
    compare(&root.join("src/gen/easel.v1.rs"), &generated);
    compare(&root.join("src/gen/descriptor.bin"), &descriptors.encode_to_vec());
}

/// Fails when `committed` is not `generated`; with EASEL_BLESS set, writes it instead.
fn compare(committed: &Path, generated: &[u8]) {
    if std::env::var_os("EASEL_BLESS").is_some() {
        fs::write(committed, generated).expect("bindings are written");
        return;
    }
    let there = fs::read(committed).unwrap_or_default();
    assert!(there == generated, "{} is stale: run EASEL_BLESS=1 cargo test -p easel-proto", committed.display());
}
