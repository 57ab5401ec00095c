//! The PNG writer: read back by others, the same bytes for ever.

use sha2::{Digest, Sha256};

use super::{Noise, open, photo};
use nightshift_engine::image::npy;
use nightshift_engine::image::png::{Pixels, TEXT_LIMIT_BYTES, Text, read_texts, write};

fn text(key: &str, value: &str) -> Text {
    Text { key: key.to_owned(), value: value.to_owned() }
}

#[test]
fn pixels_and_texts_come_back() {
    let picture = photo(33, 17).into_raw();
    let texts =
        [text("parameters", "a cat\nSeed: 7"), text("nightshift", "{\"prompt\":\"Käse 猫\"}")];
    let bytes = write(Pixels::Rgb8(&picture), 33, 17, &texts);
    assert_eq!(open(&bytes).unwrap().data, picture);
    assert_eq!(read_texts(&bytes), texts);
    let deep: Vec<u16> = (0..12).map(|v| v * 5000).collect();
    let bytes = write(Pixels::Gray16(&deep), 4, 3, &[]);
    let read = image::load_from_memory(&bytes).unwrap();
    assert_eq!(read.as_luma16().unwrap().as_raw(), &deep);
    let bytes = write(Pixels::Gray8(&[1, 2, 3, 4]), 2, 2, &[]);
    assert_eq!(
        image::load_from_memory(&bytes).unwrap().as_luma8().unwrap().as_raw(),
        &[1, 2, 3, 4]
    );
}

#[test]
fn every_filter_is_undone_by_readers() {
    // Rows that favour different filters: flat, ramps both ways, noise.
    let mut noise = Noise(3);
    let picture: Vec<u8> = (0..40 * 40 * 3)
        .map(|i| match (i / 120) % 4 {
            0 => 9,
            1 => (i % 120) as u8,
            2 => (i / 3) as u8,
            _ => noise.next() as u8,
        })
        .collect();
    assert_eq!(open(&write(Pixels::Rgb8(&picture), 40, 40, &[])).unwrap().data, picture);
}

#[test]
fn the_bytes_are_pinned() {
    let picture = photo(64, 48).into_raw();
    let bytes = write(Pixels::Rgb8(&picture), 64, 48, &[text("a", "b"), text("c", "ü")]);
    let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(
        digest, "2ac4712e79de8e18c0f6401877f436a24f12e350473fc76b72fc7ba2eca307b9",
        "published files would change"
    );
}

#[test]
fn texts_are_capped_and_clean() {
    let long = "é".repeat(TEXT_LIMIT_BYTES);
    let bytes = write(
        Pixels::Gray8(&[0]),
        1,
        1,
        &[text("long", &long), text("k\0ey", "a\u{1b}[31m\r\n\tb\0")],
    );
    let read = read_texts(&bytes);
    assert_eq!(read[0].value.len(), TEXT_LIMIT_BYTES);
    assert_eq!(read[1], text("key", "a[31m\n\tb"));
    open(&bytes).unwrap();
    assert!(read_texts(b"no png").is_empty());
    assert_eq!(read_texts(&bytes[..bytes.len() - 20]).len(), 2, "what is there is read");
}

#[test]
fn npy_headers_are_as_numpy_writes_them() {
    let bytes = npy::write(&[1.0, -2.5], &[2, 1], npy::Dtype::F32);
    assert_eq!(bytes.len(), 128 + 8);
    assert!(bytes.starts_with(
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1,), }"
    ));
    assert_eq!(bytes[127], b'\n');
    let half = npy::write(&[1.0], &[1], npy::Dtype::F16);
    assert_eq!(half[half.len() - 2..], [0x00, 0x3c]);
}
