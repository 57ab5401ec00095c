//! Every stored mode becomes the mode that the reference's reader gives, and whitening sees it right.

use super::{chunk, encoded, open, png};
use nightshift_engine::image::whiten::whiten;
use nightshift_engine::image::{Mode, apply_orientation};

fn stored(lines: &[&[u8]]) -> Vec<u8> {
    let raw: Vec<u8> = lines.iter().flat_map(|line| [&[0], *line].concat()).collect();
    chunk(b"IDAT", &miniz_oxide::deflate::compress_to_vec_zlib(&raw, 6))
}

#[test]
fn sixteen_bits_keep_their_high_byte() {
    let rgb = open(&png(1, 1, 16, 2, &[stored(&[&[0x12, 0xff, 0x80, 0x00, 0xfe, 0xff]])])).unwrap();
    assert_eq!((rgb.mode, rgb.data), (Mode::Rgb, vec![0x12, 0x80, 0xfe]));
    let gray = open(&png(2, 1, 16, 0, &[stored(&[&[1, 2, 3, 4]])])).unwrap();
    assert_eq!((gray.mode, gray.data), (Mode::Gray, vec![1, 3]));
}

#[test]
fn small_depths_are_spread_and_indices_are_not() {
    let bilevel = open(&png(10, 1, 1, 0, &[stored(&[&[0b1010_0000, 0b0100_0000]])])).unwrap();
    assert_eq!(bilevel.mode, Mode::Bilevel);
    assert_eq!(bilevel.data, [255, 0, 255, 0, 0, 0, 0, 0, 0, 255]);
    let gray = open(&png(3, 1, 4, 0, &[stored(&[&[0x0f, 0x80]])])).unwrap();
    assert_eq!((gray.mode, gray.data), (Mode::Gray, vec![0, 255, 136]));
    let palette = chunk(b"PLTE", &[10, 20, 30, 40, 50, 60, 70, 80, 90]);
    let alpha = chunk(b"tRNS", &[255, 128]);
    let indexed = open(&png(3, 1, 2, 3, &[palette, alpha, stored(&[&[0b0001_1000]])])).unwrap();
    assert_eq!((indexed.mode, &indexed.data[..]), (Mode::Palette, &[0, 1, 2][..]));
    assert_eq!(indexed.palette, [[10, 20, 30, 255], [40, 50, 60, 128], [70, 80, 90, 255]]);
    // (1 - 128/255) * 255 + 128/255 * c, truncated.
    assert_eq!(whiten(&indexed).data, [10, 20, 30, 147, 152, 157, 70, 80, 90]);
}

#[test]
fn grey_alpha_and_transparent_grey() {
    let la = open(&png(2, 1, 8, 4, &[stored(&[&[7, 255, 0, 0]])])).unwrap();
    assert_eq!((la.mode, whiten(&la).data), (Mode::GrayAlpha, vec![7, 7, 7, 255, 255, 255]));
    let keyed = open(&png(2, 1, 8, 0, &[chunk(b"tRNS", &[0, 7]), stored(&[&[7, 8]])])).unwrap();
    assert_eq!(whiten(&keyed).data, [255, 255, 255, 8, 8, 8]);
    let opaque =
        open(&png(1, 1, 8, 2, &[chunk(b"tRNS", &[0, 7, 0, 7, 0, 7]), stored(&[&[7, 7, 7]])]))
            .unwrap();
    assert_eq!(whiten(&opaque).data, [7, 7, 7], "an RGB picture passes through");
}

#[test]
fn white_under_some_alphas_becomes_254() {
    let rgba =
        open(&png(2, 1, 8, 6, &[stored(&[&[255, 255, 255, 43, 255, 255, 255, 44]])])).unwrap();
    assert_eq!(whiten(&rgba).data, [254, 254, 254, 255, 255, 255]);
}

#[test]
fn lossless_formats_give_their_pixels() {
    use image::ImageFormat::{Bmp, Png, Tiff, WebP};
    let expected = super::photo(19, 11).into_raw();
    for format in [Png, WebP, Tiff, Bmp] {
        let raw = open(&encoded(19, 11, format)).unwrap();
        assert_eq!((raw.mode, &raw.data), (Mode::Rgb, &expected), "{format:?}");
    }
}

#[test]
fn a_gif_keeps_its_indices_and_its_transparency() {
    let mut bytes = Vec::new();
    {
        let mut encoder =
            gif::Encoder::new(&mut bytes, 3, 2, &[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        let frame = gif::Frame {
            left: 1,
            width: 2,
            height: 1,
            buffer: vec![2, 1].into(),
            transparent: Some(0),
            ..Default::default()
        };
        encoder.write_frame(&frame).unwrap();
        encoder.write_frame(&frame).unwrap();
    }
    let raw = open(&bytes).unwrap();
    assert_eq!(
        (raw.mode, &raw.data[..], raw.more_frames),
        (Mode::Palette, &[0, 2, 1, 0, 0, 0][..], true)
    );
    assert_eq!(raw.palette[..3], [[1, 2, 3, 0], [4, 5, 6, 255], [7, 8, 9, 255]]);
}

#[test]
fn orientation_is_reported_and_applied_only_on_request() {
    // A little-endian EXIF block with the orientation alone.
    let exif = |value: u8| {
        [&b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0"[..], &[value, 0, 0, 0, 0, 0, 0, 0]]
            .concat()
    };
    let file = |value| png(2, 1, 8, 0, &[chunk(b"eXIf", &exif(value)), stored(&[&[1, 2]])]);
    let upright = |value| {
        let raw = open(&file(value)).unwrap();
        assert_eq!(raw.data, [1, 2]);
        let turned = apply_orientation(&raw);
        (raw.orientation, turned.width, turned.data)
    };
    assert_eq!(upright(1), (1, 2, vec![1, 2]));
    assert_eq!(upright(2), (2, 2, vec![2, 1]));
    assert_eq!(upright(3), (3, 2, vec![2, 1]));
    assert_eq!(upright(4), (4, 2, vec![1, 2]));
    assert_eq!(upright(5), (5, 1, vec![1, 2]));
    assert_eq!(upright(6), (6, 1, vec![1, 2]));
    assert_eq!(upright(7), (7, 1, vec![2, 1]));
    assert_eq!(upright(8), (8, 1, vec![2, 1]));
    for invalid in [0, 9] {
        assert_eq!(upright(invalid).0, 1);
    }
}
