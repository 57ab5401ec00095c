//! Bad inputs: each is refused with its code, from the header where that is possible, and nothing panics.

use image::ImageFormat;

use super::{Noise, chunk, code, encoded, open, png, zeros};

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Gif,
    ImageFormat::Tiff,
    ImageFormat::Bmp,
];

#[test]
fn what_is_no_picture_is_named() {
    assert_eq!(code(b""), "not_an_image");
    assert_eq!(code(b"hello, I am a png\n"), "not_an_image");
    assert_eq!(code(b"<!DOCTYPE html><html>404</html>"), "not_an_image");
    assert_eq!(code(&[0; 64]), "not_an_image");
    assert_eq!(code(b"\x89PNG\r\n\x1a\n"), "truncated_image");
    assert_eq!(code(b"\xff\xd8\xff"), "truncated_image");
    let error = open(b"<html><body>Access denied").unwrap_err();
    assert_eq!(error.to_string(), "not an image: it is an HTML page");
}

#[test]
fn formats_that_are_never_rendered_are_named() {
    for (bytes, name) in [
        (&b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>"[..], "SVG"),
        (b"  <svg/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypheic\0\0", "HEIC"),
        (b"\0\0\0\x20ftypavif\0\0", "AVIF"),
    ] {
        let error = open(bytes).unwrap_err();
        assert_eq!(
            (error.code(), error.to_string()),
            ("unsupported_format", format!("unsupported image format: {name}"))
        );
    }
}

#[test]
fn cut_files_are_errors_and_never_grey() {
    for format in FORMATS {
        let whole = encoded(64, 48, format);
        open(&whole).unwrap();
        for keep in [whole.len() / 2, whole.len() - 10] {
            // What follows the pixels of an uncompressed file may be missing without harm.
            let error = match open(&whole[..keep]) {
                Ok(_) if format == ImageFormat::Tiff => continue,
                result => result.expect_err("a cut file is refused"),
            };
            assert_eq!(error.code(), "truncated_image", "{format:?} cut to {keep}: {error}");
        }
    }
}

#[test]
fn damaged_pngs_are_errors() {
    let whole = encoded(32, 32, ImageFormat::Png);
    let without_end = &whole[..whole.len() - 12];
    assert_eq!(code(without_end), "truncated_image");
    let mut bad_checksum = whole.clone();
    let at = whole.windows(4).position(|w| w == b"IDAT").unwrap();
    bad_checksum[at + 20] ^= 1;
    assert_eq!(code(&bad_checksum), "truncated_image");
    let little = png(64, 64, 8, 2, &[chunk(b"IDAT", &zeros(100))]);
    assert_eq!(code(&little), "truncated_image");
}

#[test]
fn what_follows_the_picture_is_ignored() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg] {
        let clean = encoded(24, 16, format);
        let followed = [&clean[..], b"PK\x03\x04 and a zip file"].concat();
        assert_eq!(open(&followed).unwrap(), open(&clean).unwrap());
    }
}

#[test]
fn large_headers_are_refused_before_any_memory_is_taken() {
    let one_bit = png(60_000, 60_000, 1, 0, &[chunk(b"IDAT", &zeros(1000))]);
    assert_eq!(code(&one_bit), "too_many_pixels");
    assert_eq!(code(&png(i32::MAX as u32, i32::MAX as u32, 8, 6, &[])), "too_many_pixels");
    // GIF: canvas size in the header.
    assert_eq!(code(b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff"), "too_many_pixels");
    // WebP, lossless: 14-bit sizes after the signature byte.
    let vp8l = [&b"RIFF\x1c\0\0\0WEBPVP8L\x10\0\0\0\x2f\xfe\xbf\xff\x0f"[..], &[0; 11]].concat();
    assert_eq!(code(&vp8l), "too_many_pixels");
    // BMP: a 40-byte header.
    let mut bmp = encoded(4, 4, ImageFormat::Bmp);
    bmp[18..22].copy_from_slice(&60_000i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&60_000i32.to_le_bytes());
    assert_eq!(code(&bmp), "too_many_pixels");
    // JPEG: the frame header of a real file.
    let mut jpeg = encoded(16, 16, ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    assert_eq!(code(&jpeg), "too_many_pixels");
    // TIFF: width, height and rows of a strip are the entries with the tags 256, 257 and 278 of the directory.
    let mut tiff = encoded(16, 16, ImageFormat::Tiff);
    let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes([tiff[directory], tiff[directory + 1]]));
    for entry in (0..entries).map(|i| directory + 2 + 12 * i) {
        if matches!(u16::from_le_bytes([tiff[entry], tiff[entry + 1]]), 256 | 257 | 278) {
            tiff[entry + 8..entry + 12].copy_from_slice(&60_000u32.to_le_bytes());
        }
    }
    assert_eq!(code(&tiff), "too_many_pixels");
}

#[test]
fn compressed_bombs_are_refused() {
    let pixels = chunk(b"IDAT", &zeros(65 * 64));
    let bomb = zeros(64 << 20);
    assert_eq!(code(&png(64, 64, 8, 0, &[chunk(b"IDAT", &bomb)])), "decompression_limit");
    for (kind, prefix) in [
        (b"iCCP", &b"icc\0\0"[..]),
        (b"zTXt", b"Comment\0\0"),
        (b"iTXt", b"Comment\0\x01\0en\0Comment\0"),
    ] {
        let text = chunk(kind, &[prefix, &bomb].concat());
        assert_eq!(code(&png(64, 64, 8, 0, &[text, pixels.clone()])), "decompression_limit");
    }
    open(&png(64, 64, 8, 0, &[pixels])).unwrap();
}

#[test]
fn a_jpeg_of_very_many_scans_is_refused() {
    let whole = encoded(16, 16, ImageFormat::Jpeg);
    let scan = whole.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let (head, scan) = whole.split_at(scan);
    let mut bytes = head.to_vec();
    for _ in 0..300 {
        bytes.extend_from_slice(&scan[..scan.len() - 2]);
    }
    bytes.extend_from_slice(&[0xff, 0xd9]);
    assert_eq!(code(&bytes), "decompression_limit");
}

#[test]
fn extreme_shapes() {
    assert_eq!((open(&encoded(1, 1, ImageFormat::Png)).unwrap().width), 1);
    assert_eq!(code(&encoded(1, 20_000, ImageFormat::Png)), "bad_aspect");
}

#[test]
fn mutated_files_never_panic() {
    let mut noise = Noise(20_260_101);
    for format in FORMATS {
        let whole = encoded(20, 12, format);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..1 + noise.below(6) {
                let at = noise.below(bytes.len());
                bytes[at] = noise.next() as u8;
            }
            if noise.below(4) == 0 {
                bytes.truncate(noise.below(bytes.len()));
            }
            if let Ok(raw) = open(&bytes) {
                assert_eq!(
                    raw.data.len(),
                    raw.width as usize * raw.height as usize * raw.mode.channels()
                );
            }
        }
    }
}
