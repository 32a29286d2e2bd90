//! Raw pictures in messages: bounds and truthfulness.

use easel_proto::v1::Picture;
use tonic::Status;

use crate::status::invalid;

/// Pixels of a side.
pub const MAX_SIDE: u32 = 16384;
/// Width × height.
pub const MAX_PIXELS: u64 = 1 << 24;

/// A picture that is there, has 1 … [`MAX_SIDE`] pixels a side, at most [`MAX_PIXELS`] in all, and as many bytes as it says.
///
/// # Errors
/// INVALID_ARGUMENT naming `field` or the part of it that is wrong.
pub fn check(field: &str, picture: Option<Picture>) -> Result<Picture, Status> {
    let picture = picture.ok_or_else(|| invalid(field, "must be given"))?;
    for (name, side) in [("width", picture.width), ("height", picture.height)] {
        if !(1..=MAX_SIDE).contains(&side) {
            return Err(invalid(format!("{field}.{name}"), format!("expected 1 … {MAX_SIDE}, found {side}")));
        }
    }
    let pixels = u64::from(picture.width) * u64::from(picture.height);
    if pixels > MAX_PIXELS {
        return Err(invalid(field, format!("expected at most {MAX_PIXELS} pixels, found {pixels}")));
    }
    let (bytes, found) = (pixels * 3, picture.rgb8.len());
    if found as u64 != bytes {
        return Err(invalid(format!("{field}.rgb8"), format!("expected {bytes} bytes, found {found}")));
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_picture_is_what_it_says_or_the_field_is_named() {
        let picture = |width, height, bytes| Some(Picture { width, height, rgb8: vec![0; bytes].into() });
        assert!(check("picture", picture(2, 3, 18)).is_ok());
        let wrong = |asked| check("picture", asked).unwrap_err().message().to_owned();
        assert_eq!(wrong(None), "picture: must be given");
        assert_eq!(wrong(picture(0, 3, 0)), "picture.width: expected 1 … 16384, found 0");
        assert_eq!(wrong(picture(1, 16385, 0)), "picture.height: expected 1 … 16384, found 16385");
        assert_eq!(wrong(picture(16384, 16384, 0)), "picture: expected at most 16777216 pixels, found 268435456");
        assert_eq!(wrong(picture(2, 3, 17)), "picture.rgb8: expected 18 bytes, found 17");
    }
}
