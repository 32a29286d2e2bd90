//! Whether a JPEG file is all there: the decoder paints what is missing grey and says nothing.

const MARKER: u8 = 0xff;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

/// Whether the end-of-image marker follows the first scan. Segments before the scan (ITU-T T.81, B.1.1) may hold
/// thumbnails with ends of their own; in the scan's data an 0xff byte is followed by 0, so that an end is an end.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match rest {
            [MARKER, MARKER, ..] => rest = &rest[1..],
            [MARKER, START_OF_SCAN, scan @ ..] => {
                return scan.windows(2).any(|pair| pair == [MARKER, END_OF_IMAGE]);
            }
            [MARKER, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                match rest.get(2 + length.max(2)..) {
                    Some(next) => rest = next,
                    None => return false,
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_inside_a_segment_does_not_count() {
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2, 1, 2];
        assert!(!is_complete(&head));
        let whole = [&head[..], &[0xff, 0xd9]].concat();
        assert!(is_complete(&whole));
        for length in 0..whole.len() - 1 {
            assert!(!is_complete(&whole[..length]), "{length} bytes");
        }
    }
}
