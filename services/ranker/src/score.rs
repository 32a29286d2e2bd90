//! The arithmetic of scores and the checks of captions: no model, no messages.

use crate::Error;
use crate::model::Shape;

/// The cosine of two vectors of length 1, within −1 … 1 whatever the rounding; NaN stays NaN.
pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // Summed in double precision: the sum's order then does not show in the result.
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sum.clamp(-1.0, 1.0) as f32
}

/// The cosine of what two embeddings of length 1 say is in a picture, whatever they say of what lies where.
pub(crate) fn cosine_of_content(a: &[f32], b: &[f32], shape: Shape) -> f32 {
    if shape.layout_width == 0 {
        return cosine(a, b);
    }
    let content = (shape.embedding_width - shape.layout_width) as usize;
    let unit = |vector: &[f32]| -> Vec<f32> {
        let length = vector[..content].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
        vector[..content].iter().map(|x| (f64::from(*x) / length) as f32).collect()
    };
    cosine(&unit(a), &unit(b))
}

/// Softmax of `scale` × `cosines`. The highest is taken off first, so that no exponential overflows.
pub(crate) fn softmax(cosines: &[f32], scale: f32) -> Vec<f32> {
    let logits: Vec<f64> = cosines.iter().map(|cosine| f64::from(*cosine) * f64::from(scale)).collect();
    let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| (power / sum) as f32).collect()
}

/// A caption as the text tower reads it: `ids` and pads up to the context length. `field` names it in errors.
pub(crate) fn pad(field: &str, ids: &[u32], shape: Shape) -> Result<Vec<u32>, Error> {
    let (length, vocabulary) = (shape.context_length as usize, shape.vocabulary);
    if ids.is_empty() || ids.len() > length {
        return Err(Error::invalid(format!("{field}.ids"), format!("expected 1 … {length} ids, found {}", ids.len())));
    }
    if let Some(i) = ids.iter().position(|id| *id >= vocabulary) {
        let reason = format!("expected 0 … {}, found {}", vocabulary - 1, ids[i]);
        return Err(Error::invalid(format!("{field}.ids[{i}]"), reason));
    }
    let pads = std::iter::repeat(shape.pad);
    Ok(ids.iter().copied().chain(pads).take(length).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use easel_package::{Preprocess, Size};

    use super::*;

    const SHAPE: Shape = Shape {
        preprocess: Preprocess { size: Size { width: 4, height: 4 } },
        context_length: 4,
        vocabulary: 10,
        pad: 9,
        embedding_width: 2,
        layout_width: 0,
        logit_scale: 1.0,
    };

    #[test]
    fn cosines_are_bounded() {
        assert_eq!(cosine(&[0.6, 0.8], &[0.6, 0.8]), 1.0);
        assert_eq!(cosine(&[0.6, 0.8], &[-0.6, -0.8]), -1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[1.000_01, 0.0], &[1.000_01, 0.0]), 1.0);
        assert!(cosine(&[f32::NAN], &[1.0]).is_nan());
    }

    #[test]
    fn content_is_compared_whatever_lies_where() {
        let whole = Shape { embedding_width: 3, ..SHAPE };
        let parts = Shape { layout_width: 1, ..whole };
        let (a, b) = ([0.36, 0.48, 0.8], [0.6, 0.0, -0.8]);
        assert!((cosine_of_content(&a, &b, parts) - 0.6).abs() < 1e-6);
        assert_eq!(cosine_of_content(&a, &b, whole), cosine(&a, &b));
        assert_eq!(cosine_of_content(&[0.0, 0.0, 1.0], &b, parts), 0.0);
        assert!(cosine_of_content(&[f32::NAN, 0.0, 1.0], &b, parts).is_nan());
    }

    #[test]
    fn softmax_sums_to_one_at_any_scale() {
        assert_eq!(softmax(&[0.3], 100.0), [1.0]);
        assert_eq!(softmax(&[0.5, 0.5], 10_000.0), [0.5, 0.5]);
        assert_eq!(softmax(&[1.0, -1.0], 10_000.0), [1.0, 0.0]);
        let even = softmax(&[0.0, 2.0_f32.ln()], 1.0);
        assert!((even[0] - 1.0 / 3.0).abs() < 1e-7 && (even[1] - 2.0 / 3.0).abs() < 1e-7);
        let many: Vec<f32> = (0..1024).map(|i| (i as f32 * 0.37).sin()).collect();
        let sum: f64 = softmax(&many, 100.0).into_iter().map(f64::from).sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }

    #[test]
    fn captions_are_padded_or_refused_by_field() {
        assert_eq!(pad("caption", &[1, 2], SHAPE).unwrap(), [1, 2, 9, 9]);
        assert_eq!(pad("caption", &[1, 2, 3, 4], SHAPE).unwrap(), [1, 2, 3, 4]);
        let wrong = |ids: &[u32]| pad("labels[2]", ids, SHAPE).unwrap_err().to_string();
        assert_eq!(wrong(&[]), "labels[2].ids: expected 1 … 4 ids, found 0");
        assert_eq!(wrong(&[1; 5]), "labels[2].ids: expected 1 … 4 ids, found 5");
        assert_eq!(wrong(&[1, 10]), "labels[2].ids[1]: expected 0 … 9, found 10");
    }
}
