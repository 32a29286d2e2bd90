//! Pictures become tokens.

use easel_decoder::Config;
use easel_decoder::model::Shape;
use easel_proto::v1::{EncodeRequest, Grid, PackageRef, Picture};
use tonic::Code;

use crate::support::{SHAPE, Service, field};

fn picture(width: u32, height: u32, bytes: usize) -> Option<Picture> {
    Some(Picture { width, height, rgb8: vec![40; bytes].into() })
}

fn request(picture: Option<Picture>) -> EncodeRequest {
    EncodeRequest { package: None, picture }
}

#[tokio::test]
async fn a_picture_of_any_size_is_seen_in_the_models() {
    let mut service = Service::free().await;
    let mut pixels = Vec::new();
    for token in 0..6_u8 {
        pixels.extend([token; 3]);
    }
    // Doubled, so that it fits without a resize.
    let row = |at: usize| [&pixels[at..at + 3], &pixels[at..at + 3]].concat();
    let rows = |ats: [usize; 3]| ats.map(row).concat();
    let (upper, lower) = (rows([0, 3, 6]), rows([9, 12, 15]));
    let fits = [upper.clone(), upper, lower.clone(), lower].concat();
    let given = Some(Picture { width: 6, height: 4, rgb8: fits.clone().into() });
    let encoded = service.client.encode(request(given)).await.unwrap().into_inner();
    assert_eq!(encoded.grid, Some(Grid { rows: 2, columns: 3 }));
    assert_eq!(encoded.tokens, [0, 1, 2, 3, 4, 5]);
    assert_eq!(encoded.seen.unwrap().rgb8, fits);

    for (width, height) in [(1, 1), (60, 40), (7, 100)] {
        let given = picture(width, height, (width * height * 3) as usize);
        let encoded = service.client.encode(request(given)).await.unwrap().into_inner();
        assert_eq!(encoded.tokens, [40; 6]);
        let seen = encoded.seen.unwrap();
        assert_eq!((seen.width, seen.height, seen.rgb8.len()), (6, 4, 72));
    }
    service.end().await;
}

#[tokio::test]
async fn bad_pictures_are_refused_by_field() {
    let mut service = Service::free().await;
    let cases = [
        (None, "picture"),
        (picture(0, 4, 0), "picture.width"),
        (picture(6, 0, 0), "picture.height"),
        (picture(20_000, 1, 60_000), "picture.width"),
        (picture(16_384, 16_384, 1), "picture"),
        (picture(6, 4, 71), "picture.rgb8"),
    ];
    for (given, expected) in cases {
        assert_eq!(field(&service.client.encode(request(given)).await.unwrap_err()), expected);
    }
    let package = Some(PackageRef { name: "cats".into(), digest: String::new() });
    let unknown = service.client.encode(EncodeRequest { package, picture: picture(1, 1, 3) }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    service.client.encode(request(picture(1, 1, 3))).await.unwrap();
    service.end().await;
}

#[tokio::test]
async fn a_package_without_an_encoder_takes_no_pictures() {
    let shape = Shape { encoder: None, ..SHAPE };
    let mut service = Service::start(shape, Config::new(vec![]), false).await;
    let refused = service.client.encode(request(picture(1, 1, 3))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.message(), "package shapes has no encoder: it takes no pictures");
    service.end().await;
}
