//! Finds the joints in a pose map by the colours of its bones.
//!
//! A bone is a straight stroke: its ends are the extremes of its pixels along their main direction. The outer ends, less half the
//! thickness, are head, hands and feet; neck and hip are the middle between the inner ends of the arms and of the legs, of which
//! one covers a part of the other.

use nightshift_engine::RgbImage;

use super::super::maps::BONES;
use super::super::sample::Sample;
use super::super::scene::SIDE;
use super::measure::{Score, nearest, pixels};

/// Darker pixels are background.
const LEAST_LIGHT: u8 = 110;
/// Pixels that a bone must have.
const LEAST: usize = 4;
/// From the last pixel's middle to the joint: half of the thickness, less what the threshold takes.
const INSET: f32 = 1.0;
/// A hue further than this from every bone's, in 8-bit steps, is a mixture of two.
const MIXED: i32 = 80;

type Point = [f32; 2];

/// The mean distance of seven joints in pixels (one that is missing counts as the middle of the panel), and the share found.
#[must_use]
pub fn score(sample: &Sample, panel: &RgbImage) -> Vec<Score> {
    let Some(truth) = &sample.joints else {
        return Vec::new();
    };
    let truth = [
        truth.head,
        truth.neck,
        truth.hip,
        truth.left_hand,
        truth.right_hand,
        truth.left_foot,
        truth.right_foot,
    ];
    let found = joints(panel);
    let middle = [SIDE as f32 / 2.0; 2];
    let errors = truth.iter().zip(found).map(|(truth, found)| {
        let found = found.unwrap_or(middle);
        f64::from(distance(found, *truth)).sqrt()
    });
    let count = truth.len() as f64;
    let seen = found.iter().flatten().count() as f64;
    vec![("joints px", errors.sum::<f64>() / count), ("joints found", seen / count)]
}

/// Head, neck, hip, left hand, right hand, left foot, right foot.
fn joints(panel: &RgbImage) -> [Option<Point>; 7] {
    let bones = bones(panel);
    let torso = bones[1].map(|[a, b]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0]);
    let ends = |bone: usize| bones[bone].zip(torso).map(|(bone, torso)| outward(bone, torso));
    let outer = |bone: usize| {
        ends(bone).map(|[inner, outer]| {
            let length = distance(inner, outer).sqrt().max(2.0 * INSET);
            [0, 1].map(|axis| outer[axis] + (inner[axis] - outer[axis]) * INSET / length)
        })
    };
    let between = |points: [Option<Point>; 2]| {
        let seen: Vec<Point> = points.into_iter().flatten().collect();
        let mean = |axis: usize| seen.iter().map(|p| p[axis]).sum::<f32>() / seen.len() as f32;
        (!seen.is_empty()).then(|| [mean(0), mean(1)])
    };
    let inner = |bone: usize| ends(bone).map(|[inner, _]| inner);
    let (neck, hip) = (between([2, 3].map(inner)), between([4, 5].map(inner)));
    [outer(0), neck, hip, outer(2), outer(3), outer(4), outer(5)]
}

/// The ends of a bone, that nearer to the torso first.
fn outward([a, b]: [Point; 2], torso: Point) -> [Point; 2] {
    if distance(a, torso) <= distance(b, torso) { [a, b] } else { [b, a] }
}

/// Squared.
fn distance(a: Point, b: Point) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

/// The two ends of each bone's stroke.
fn bones(panel: &RgbImage) -> [Option<[Point; 2]>; 6] {
    let mut points: [Vec<Point>; 6] = Default::default();
    for (at, pixel) in pixels(panel).into_iter().enumerate() {
        let most = pixel.into_iter().max().unwrap_or(0);
        if most < LEAST_LIGHT {
            continue;
        }
        // Strokes fade into black at their sides: only the hue tells the bone.
        let hue = pixel.map(|c| (u32::from(c) * 255 / u32::from(most)) as u8);
        let centre = [(at % SIDE) as f32 + 0.5, (at / SIDE) as f32 + 0.5];
        let bone = nearest(hue, &BONES);
        let off = hue.iter().zip(BONES[bone]);
        let off = off.map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2));
        if off.sum::<i32>() <= MIXED * MIXED {
            points[bone].push(centre);
        }
    }
    points.map(|points| stroke(&points))
}

fn stroke(points: &[Point]) -> Option<[Point; 2]> {
    if points.len() < LEAST {
        return None;
    }
    let n = points.len() as f32;
    let mean = [0, 1].map(|axis| points.iter().map(|p| p[axis]).sum::<f32>() / n);
    let moment = |a: usize, b: usize| -> f32 {
        let parts = points.iter().map(|p| (p[a] - mean[a]) * (p[b] - mean[b]));
        parts.sum::<f32>() / n
    };
    let (xx, xy, yy) = (moment(0, 0), moment(0, 1), moment(1, 1));
    // The larger eigenvalue's direction.
    let root = ((xx - yy) * (xx - yy) + 4.0 * xy * xy).sqrt();
    let along = match (xx - yy + root, 2.0 * xy) {
        (x, y) if x * x + y * y > 1e-6 => [x, y],
        _ => [0.0, 1.0],
    };
    let length = (along[0] * along[0] + along[1] * along[1]).sqrt();
    let along = along.map(|part| part / length);
    let mut places: Vec<f32> =
        points.iter().map(|p| (p[0] - mean[0]) * along[0] + (p[1] - mean[1]) * along[1]).collect();
    places.sort_by(f32::total_cmp);
    // A stray pixel must not pull an end: one in twenty is left out on each side.
    let stray = places.len() / 20;
    let (first, last) = (places[stray], places[places.len() - 1 - stray]);
    let end = |place: f32| [mean[0] + place * along[0], mean[1] + place * along[1]];
    Some([end(first), end(last)])
}
