//! The maps of a drawn scene, as 8-bit RGB panels.

use nightshift_engine::RgbImage;
use nightshift_engine::image::canny;

use super::palette::{self, Class, Rgb};
use super::person::Joints;
use super::render::{Drawn, FAR, FIRST_OBJECT, GROUND, NEAR, SKY};
use super::scene::{SIDE, Scene};

/// Thresholds of the Canny maps.
pub const CANNY: (u32, u32) = (100, 200);

/// Red, green and blue of the bones: head, torso, left arm, right arm, left leg, right leg.
pub const BONES: [Rgb; 6] =
    [[255, 255, 255], [255, 220, 0], [255, 40, 40], [60, 110, 255], [255, 60, 220], [0, 220, 120]];

/// Half of a bone's thickness in pixels.
const BONE: f32 = 1.5;

/// A panel of pixels.
#[must_use]
pub fn panel(pixels: &[Rgb]) -> RgbImage {
    let side = SIDE as u32;
    RgbImage::from_raw(side, side, pixels.concat()).expect("a panel has 64 by 64 pixels")
}

fn grey(values: impl Iterator<Item = u8>) -> RgbImage {
    panel(&values.map(|v| [v; 3]).collect::<Vec<_>>())
}

/// Depth as grey: `round(255 (FAR - d) / (FAR - NEAR))`, so that near is bright and the sky is black.
#[must_use]
pub fn depth(drawn: &Drawn) -> RgbImage {
    grey(drawn.depth.iter().map(|d| byte((FAR - d) / (FAR - NEAR))))
}

/// The depth that a grey value of a depth map means.
#[must_use]
pub fn metres(grey: f32) -> f32 {
    FAR - grey / 255.0 * (FAR - NEAR)
}

/// Normals as `round(255 (n + 1) / 2)`: x right, y up, z towards the camera; the sky has none and is (128, 128, 128).
#[must_use]
pub fn normal(drawn: &Drawn) -> RgbImage {
    let pixels = drawn.normal.iter().map(|n| n.map(|part| byte((part + 1.0) / 2.0)));
    panel(&pixels.collect::<Vec<_>>())
}

fn byte(value: f32) -> u8 {
    // Round half up: a cast drops the fraction and saturates.
    (value * 255.0 + 0.5) as u8
}

/// One colour for each class, see [`palette::class`].
#[must_use]
pub fn segmentation(scene: &Scene, drawn: &Drawn) -> RgbImage {
    let class = |owner: u8| match owner {
        SKY => Class::Sky,
        GROUND => Class::Ground,
        n => Class::Of(scene.objects[usize::from(n - FIRST_OBJECT)].shape),
    };
    let pixels = drawn.owner.iter().map(|owner| palette::class(class(*owner)));
    panel(&pixels.collect::<Vec<_>>())
}

/// Canny edges of the picture, white on black.
#[must_use]
pub fn edges(picture: &RgbImage) -> RgbImage {
    grey(canny(picture, CANNY.0, CANNY.1).into_iter())
}

/// Soft edges of the picture: the steepest channel's Sobel gradient, blurred.
#[must_use]
pub fn soft_edges(picture: &RgbImage) -> RgbImage {
    let at = |x: isize, y: isize, c: usize| {
        let x = x.clamp(0, SIDE as isize - 1) as usize;
        let y = y.clamp(0, SIDE as isize - 1) as usize;
        i32::from(picture.data[(y * SIDE + x) * 3 + c])
    };
    let steep = |x: isize, y: isize, c: usize| {
        let column = |x| at(x, y - 1, c) + 2 * at(x, y, c) + at(x, y + 1, c);
        let row = |y| at(x - 1, y, c) + 2 * at(x, y, c) + at(x + 1, y, c);
        (column(x + 1) - column(x - 1)).abs() + (row(y + 1) - row(y - 1)).abs()
    };
    let mut values: Vec<i32> = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE as isize {
        for x in 0..SIDE as isize {
            let most = (0..3).map(|c| steep(x, y, c)).max().unwrap_or(0);
            values.push((most / 2).min(255));
        }
    }
    let blurred = blur(&blur(&values));
    grey(blurred.into_iter().map(|v| (v * 3 / 2).min(255) as u8))
}

/// The 3 by 3 binomial filter.
fn blur(values: &[i32]) -> Vec<i32> {
    let at = |x: isize, y: isize| {
        let x = x.clamp(0, SIDE as isize - 1) as usize;
        let y = y.clamp(0, SIDE as isize - 1) as usize;
        values[y * SIDE + x]
    };
    let mut out = Vec::with_capacity(values.len());
    for y in 0..SIDE as isize {
        for x in 0..SIDE as isize {
            let row = |y| at(x - 1, y) + 2 * at(x, y) + at(x + 1, y);
            out.push((row(y - 1) + 2 * row(y) + row(y + 1) + 8) / 16);
        }
    }
    out
}

/// The ends of the bones, in the order of [`BONES`].
#[must_use]
pub fn bones<P: Copy>(joints: &Joints<P>) -> [[P; 2]; 6] {
    [
        [joints.neck, joints.head],
        [joints.neck, joints.hip],
        [joints.neck, joints.left_hand],
        [joints.neck, joints.right_hand],
        [joints.hip, joints.left_foot],
        [joints.hip, joints.right_foot],
    ]
}

/// The skeleton on black; joints as columns and rows.
#[must_use]
pub fn pose(joints: Option<&Joints<[f32; 2]>>) -> RgbImage {
    let mut pixels = vec![[0; 3]; SIDE * SIDE];
    for (bone, colour) in joints.map(bones).iter().flatten().zip(BONES) {
        for (i, pixel) in pixels.iter_mut().enumerate() {
            let covered = coverage((i % SIDE) as f32, (i / SIDE) as f32, *bone);
            for (value, target) in pixel.iter_mut().zip(colour) {
                let mixed = u16::from(*value) * (9 - covered) + u16::from(target) * covered;
                *value = ((mixed + 4) / 9) as u8;
            }
        }
    }
    panel(&pixels)
}

/// How many of a pixel's nine samples lie on a bone.
fn coverage(x: f32, y: f32, [a, b]: [[f32; 2]; 2]) -> u16 {
    let reach = BONE + 1.0;
    if x + reach < a[0].min(b[0])
        || x - reach > a[0].max(b[0])
        || y + reach < a[1].min(b[1])
        || y - reach > a[1].max(b[1])
    {
        return 0;
    }
    let along = [b[0] - a[0], b[1] - a[1]];
    let length2 = along[0] * along[0] + along[1] * along[1];
    let near = |i: usize| {
        let p = [x + ((i % 3) as f32 + 0.5) / 3.0 - a[0], y + ((i / 3) as f32 + 0.5) / 3.0 - a[1]];
        let place = ((p[0] * along[0] + p[1] * along[1]) / length2).clamp(0.0, 1.0);
        let off = [p[0] - place * along[0], p[1] - place * along[1]];
        off[0] * off[0] + off[1] * off[1] < BONE * BONE
    };
    (0..9).filter(|i| near(*i)).count() as u16
}
