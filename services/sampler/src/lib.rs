//! The sampler service: a transformer continues the caption with image tokens.
