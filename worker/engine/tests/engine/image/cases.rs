//! Small files of kinds that decoders get wrong, each with what is expected of it.

use nightshift_engine::image::apply_orientation;

use super::{code, open};

#[test]
fn jpegs_that_would_be_decoded_wrongly_are_unsupported() {
    for (name, bytes) in [
        ("three scans", &include_bytes!("cases/jpeg_baseline_3scans_420.jpg")[..]),
        ("red chroma first", include_bytes!("cases/jpeg_baseline_cr_first.jpg")),
        ("luma subsampled", include_bytes!("cases/jpeg_luma_subsampled.jpg")),
        ("factor 3", include_bytes!("cases/jpeg_sampling_3x1.jpg")),
        ("arithmetic", include_bytes!("cases/jpeg_arithmetic.jpg")),
        ("12 bits", include_bytes!("cases/jpeg_12bit.jpg")),
    ] {
        assert_eq!(code(bytes), "unsupported_format", "{name}");
    }
}

#[test]
fn orientation_is_read_as_long_and_after_the_exif_prefix() {
    let reference = open(include_bytes!("cases/00_reference.png")).unwrap();
    for bytes in [
        &include_bytes!("cases/jpeg_exif_long_orientation6.jpg")[..],
        include_bytes!("cases/png_exif_with_header_o6.png"),
    ] {
        let stored = open(bytes).unwrap();
        assert_eq!((stored.width, stored.height), (reference.width, reference.height));
        assert_eq!(stored.orientation, 6);
        let upright = apply_orientation(&stored);
        assert_eq!((upright.width, upright.height), (72, 96));
    }
}
