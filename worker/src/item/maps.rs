//! Maps as numbers and as colours. The model draws depth near-bright in 8-bit RGB; more bits are a container, not precision.

use nightshift_engine::RgbImage;

/// ColorBrewer's Spectral, from near to far.
const SPECTRAL: [[u8; 3]; 11] = [
    [0x9e, 0x01, 0x42],
    [0xd5, 0x3e, 0x4f],
    [0xf4, 0x6d, 0x43],
    [0xfd, 0xae, 0x61],
    [0xfe, 0xe0, 0x8b],
    [0xff, 0xff, 0xbf],
    [0xe6, 0xf5, 0x98],
    [0xab, 0xdd, 0xa4],
    [0x66, 0xc2, 0xa5],
    [0x32, 0x88, 0xbd],
    [0x5e, 0x4f, 0xa2],
];

/// Distance of each pixel in steps of 1/765 above the nearest one, and the farthest of them (at least 1).
fn steps(map: &RgbImage) -> (Vec<u32>, u32) {
    let sums: Vec<u32> =
        map.data.chunks_exact(3).map(|p| p.iter().map(|&c| u32::from(c)).sum()).collect();
    let brightest = sums.iter().copied().max().unwrap_or(0);
    let steps: Vec<u32> = sums.iter().map(|sum| brightest - sum).collect();
    let farthest = steps.iter().copied().max().unwrap_or(0).max(1);
    (steps, farthest)
}

/// `round(65535 (d - min) / (max - min))` over the picture; 0 is near. A flat map is all near.
pub(crate) fn depth_16(map: &RgbImage) -> Vec<u16> {
    let (steps, farthest) = steps(map);
    let scaled = |step: u32| (step * 2 * 65_535 + farthest) / (2 * farthest);
    steps.into_iter().map(|step| u16::try_from(scaled(step)).expect("a share of 65535")).collect()
}

/// Distance of each pixel in 0..1, scaled over the picture; 0 is near.
pub(crate) fn distances(map: &RgbImage) -> Vec<f32> {
    let (steps, farthest) = steps(map);
    steps.into_iter().map(|step| step as f32 / farthest as f32).collect()
}

/// Mean of the three channels in 0..1.
pub(crate) fn brightness(map: &RgbImage) -> Vec<f32> {
    map.data
        .chunks_exact(3)
        .map(|p| p.iter().map(|&c| u32::from(c)).sum::<u32>() as f32 / 765.0)
        .collect()
}

/// Normals of unit length, three numbers a pixel: `2 c / 255 - 1`, normalised.
pub(crate) fn normals(map: &RgbImage) -> Vec<f32> {
    let mut values = Vec::with_capacity(map.data.len());
    for pixel in map.data.chunks_exact(3) {
        let [x, y, z] = [pixel[0], pixel[1], pixel[2]].map(|c| f32::from(c) * 2.0 / 255.0 - 1.0);
        // No 8-bit colour is the zero vector: 127.5 does not exist.
        let length = (x * x + y * y + z * z).sqrt();
        values.extend([x, y, z].map(|part| part / length));
    }
    values
}

/// Near is red, far is violet; RGB.
pub(crate) fn spectral(map: &RgbImage) -> Vec<u8> {
    let (steps, farthest) = steps(map);
    let last = SPECTRAL.len() as u32 - 1;
    let mut pixels = Vec::with_capacity(map.data.len());
    for step in steps {
        let at = step * last;
        let (low, share) = (at / farthest, at % farthest);
        let from = SPECTRAL[low as usize];
        let to = SPECTRAL[(low + 1).min(last) as usize];
        for (a, b) in from.into_iter().zip(to) {
            let mixed = (u32::from(a) * (farthest - share) + u32::from(b) * share + farthest / 2)
                / farthest;
            pixels.push(u8::try_from(mixed).expect("between two bytes"));
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(greys: &[u8]) -> RgbImage {
        let data = greys.iter().flat_map(|&g| [g, g, g]).collect();
        RgbImage { width: greys.len() as u32, height: 1, data }
    }

    #[test]
    fn bright_is_near_and_near_is_zero() {
        assert_eq!(depth_16(&row(&[255, 0, 128])), [0, 65_535, 32_639]);
        assert_eq!(depth_16(&row(&[200, 100])), [0, 65_535], "scaled over the picture");
        assert_eq!(depth_16(&row(&[7, 7])), [0, 0], "a flat map is all near");
        assert_eq!(distances(&row(&[255, 0])), [0.0, 1.0]);
    }

    #[test]
    fn near_is_red() {
        let colours = spectral(&row(&[255, 0]));
        assert_eq!(colours, [0x9e, 0x01, 0x42, 0x5e, 0x4f, 0xa2]);
    }

    #[test]
    fn normals_have_unit_length() {
        let map = RgbImage { width: 2, height: 1, data: vec![128, 128, 255, 0, 0, 0] };
        for n in normals(&map).chunks_exact(3) {
            let length: f32 = n.iter().map(|x| x * x).sum();
            assert!((length - 1.0).abs() < 1e-6, "{n:?}");
        }
    }
}
