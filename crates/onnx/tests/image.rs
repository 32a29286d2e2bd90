//! Decoder, encoder and CLIP: no bit of a picture depends on the others of the call, and nothing wrong gets in.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, Random, cpu, middle, tiny};
use easel_import::synthetic::Geometry;
use easel_onnx::{Clip, ImageDecoder, ImageEncoder, Runtime};

const PICTURES: usize = 9;

/// Holds `many` of all items against `one` by one, on one thread and on two.
fn hold_bits<T: PartialEq + Clone>(items: &[Vec<u32>], mut run: impl FnMut(usize, &[u32]) -> Vec<T>) {
    let alone: Vec<T> = items.iter().flat_map(|item| run(1, item)).collect();
    for threads in [1, 2] {
        for count in [2, 3, 8, items.len()] {
            let together: Vec<T> = items.chunks(count).flat_map(|items| run(threads, &items.concat())).collect();
            assert!(together == alone, "{count} at a time, {threads} threads");
        }
    }
}

fn hold_all_bits(geometry: &Geometry) {
    let fixture = Fixture::new(geometry);
    let (package, manifest) = (&fixture.package, fixture.package.manifest());
    let runtime = Runtime::load().unwrap();
    let mut random = Random(5);
    let mut items = |length: usize, bound: u32| -> Vec<Vec<u32>> {
        (0..PICTURES).map(|_| (0..length).map(|_| random.below(bound as usize) as u32).collect()).collect()
    };
    let bytes = |numbers: &[u32]| -> Vec<u8> { numbers.iter().map(|n| *n as u8).collect() };

    let mut decoders = [1, 2].map(|threads| ImageDecoder::load(&runtime, package, &cpu(threads)).unwrap());
    hold_bits(&items(manifest.grid.cells(), manifest.codebook), |threads, t| decoders[threads - 1].decode(t).unwrap());
    let mut encoders = [1, 2].map(|threads| ImageEncoder::load(&runtime, package, &cpu(threads)).unwrap());
    let picture = (manifest.image.width * manifest.image.height * 3) as usize;
    hold_bits(&items(picture, 256), |threads, p| encoders[threads - 1].encode(&bytes(p)).unwrap());

    let ranker = manifest.ranker.as_ref().unwrap();
    let mut clips = [1, 2].map(|threads| Clip::load(&runtime, package, &cpu(threads)).unwrap());
    let size = ranker.preprocess.size;
    let pictures = items((size.width * size.height * 3) as usize, 256);
    hold_bits(&pictures, |threads, p| clips[threads - 1].embed_images(&bytes(p)).unwrap());
    let texts = items(ranker.text.context_length as usize, ranker.text.vocabulary);
    hold_bits(&texts, |threads, ids| clips[threads - 1].embed_texts(ids).unwrap());
}

#[test]
fn a_tiny_models_bits_do_not_depend_on_company_or_threads() {
    hold_all_bits(&tiny());
}

#[test]
fn a_larger_models_bits_do_not_depend_on_company_or_threads() {
    hold_all_bits(&middle());
}

#[test]
fn a_local_encoders_bits_do_not_depend_on_company_or_threads() {
    hold_all_bits(&Geometry { local_encoder: true, ..tiny() });
}

#[test]
fn a_local_encoder_sees_each_cell_alone() {
    let differing = |local_encoder: bool| {
        let fixture = Fixture::new(&Geometry { local_encoder, ..tiny() });
        let mut encoder = ImageEncoder::load(&Runtime::load().unwrap(), &fixture.package, &cpu(1)).unwrap();
        let mut random = Random(7);
        let mut picture: Vec<u8> = (0..48 * 48 * 3).map(|_| random.below(256) as u8).collect();
        let before = encoder.encode(&picture).unwrap();
        for row in 16..24 {
            picture[(row * 48 + 24) * 3..(row * 48 + 32) * 3].iter_mut().for_each(|pixel| *pixel ^= 0xff);
        }
        let after = encoder.encode(&picture).unwrap();
        (0..36).filter(|i| before[*i] != after[*i]).collect::<Vec<_>>()
    };
    assert_eq!(differing(true), [2 * 6 + 3]);
    assert!(differing(false).len() > 1);
}

#[test]
fn embeddings_have_length_one() {
    let fixture = Fixture::new(&tiny());
    let ranker = fixture.package.manifest().ranker.as_ref().unwrap();
    let mut clip = Clip::load(&Runtime::load().unwrap(), &fixture.package, &cpu(1)).unwrap();
    let mut vectors = clip.embed_images(&[7; 2 * 32 * 32 * 3]).unwrap();
    vectors.extend(clip.embed_texts(&vec![1; ranker.text.context_length as usize]).unwrap());
    assert_eq!(vectors.len(), 3 * ranker.embedding_width as usize);
    for vector in vectors.chunks_exact(ranker.embedding_width as usize) {
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let fixture = Fixture::new(&tiny());
    let (runtime, package) = (Runtime::load().unwrap(), &fixture.package);
    let mut decoder = ImageDecoder::load(&runtime, package, &cpu(1)).unwrap();
    let mut refused =
        |tokens: &[u32], message: &str| assert_eq!(decoder.decode(tokens).unwrap_err().to_string(), message);
    refused(&[], "tokens: expected a multiple of 36 numbers, found 0");
    refused(&[0; 37], "tokens: expected a multiple of 36 numbers, found 37");
    refused(&[200; 36], "tokens[0]: expected 0 … 199, found 200");
    assert_eq!(decoder.decode(&[199; 72]).unwrap().len(), 2 * 48 * 48 * 3);

    let mut encoder = ImageEncoder::load(&runtime, package, &cpu(1)).unwrap();
    let error = encoder.encode(&[0; 5]).unwrap_err().to_string();
    assert_eq!(error, "pixels: expected a multiple of 6912 numbers, found 5");
    assert_eq!(encoder.encode(&[9; 6912]).unwrap().len(), 36);

    let mut clip = Clip::load(&runtime, package, &cpu(1)).unwrap();
    assert!(clip.embed_images(&[0; 5]).is_err());
    let ranker = package.manifest().ranker.as_ref().unwrap();
    let error = clip.embed_texts(&vec![u32::MAX; ranker.text.context_length as usize]).unwrap_err().to_string();
    assert!(error.starts_with("ids[0]: expected 0 … "), "{error}");
}
