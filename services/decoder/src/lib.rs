//! The decoder service: image tokens become pixels, and pixels image tokens.
