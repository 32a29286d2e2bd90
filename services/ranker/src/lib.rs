//! The ranker service: CLIP scores pictures against captions.
