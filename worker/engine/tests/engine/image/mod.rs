mod cases;
mod fit;
mod modes;
mod poison;
mod writer;

use nightshift_engine::image::{DecodeError, Limits, RawImage, decode};

/// Decodes within the default limits.
fn open(bytes: &[u8]) -> Result<RawImage, DecodeError> {
    decode(bytes, &Limits::default())
}

/// The code of the refusal.
fn code(bytes: &[u8]) -> &'static str {
    open(bytes).expect_err("the bytes are refused").code()
}

/// A generator of reproducible noise (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// A smooth picture with some noise.
fn photo(width: u32, height: u32) -> image::RgbImage {
    let mut noise = Noise(7);
    image::RgbImage::from_fn(width, height, |x, y| {
        let n = (noise.next() % 16) as u32;
        image::Rgb([(x * 3 + n) as u8, (y * 5 + n) as u8, ((x + y) * 2) as u8])
    })
}

fn encoded(width: u32, height: u32, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    photo(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// One PNG chunk with its checksum.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes()[..], kind, body, &crc.sum().to_be_bytes()].concat()
}

/// A PNG of the given header fields and chunks between header and end.
fn png(width: u32, height: u32, depth: u8, colour: u8, middle: &[Vec<u8>]) -> Vec<u8> {
    let header =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    bytes.extend(chunk(b"IHDR", &header));
    middle.iter().for_each(|chunk| bytes.extend(chunk));
    bytes.extend(chunk(b"IEND", &[]));
    bytes
}

/// A zlib stream of `n` zeros.
fn zeros(n: usize) -> Vec<u8> {
    miniz_oxide::deflate::compress_to_vec_zlib(&vec![0; n], 9)
}
