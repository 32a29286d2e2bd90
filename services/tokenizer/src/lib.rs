//! The tokenizer service: a caption becomes text tokens.
