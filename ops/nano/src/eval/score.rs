//! Judges a panel. What a scene does not say is not judged: each name comes with a value only where it applies.

use nightshift_engine::RgbImage;
use nightshift_engine::prompt::Map;

use super::super::maps;
use super::super::metrics;
use super::super::palette::{self, Class, Rgb};
use super::super::sample::Sample;
use super::super::scene::Shape;
use super::measure::{Score, nearest, pixels};
use super::tasks::Task;
use super::{pose, read};

/// From here a pixel of a hard edge map is an edge.
const CANNY: u8 = 128;
/// From here a pixel of a soft edge map is an edge.
const HED: u8 = 64;

/// Judges the panel that was drawn for a task.
#[must_use]
pub fn score(task: Task, sample: &Sample, panel: &RgbImage) -> Vec<Score> {
    match task {
        Task::Dense(Map::Depth) => depth(sample, panel),
        Task::Dense(Map::Normal) => vec![("angle deg", normal(sample, panel))],
        Task::Dense(Map::Canny) => vec![("edge f1", edges(sample, "canny", CANNY, panel))],
        Task::Dense(Map::Hed) => vec![("edge f1", edges(sample, "hed", HED, panel))],
        Task::Dense(Map::Pose) => pose::score(sample, panel),
        Task::Dense(Map::Segmentation) => vec![("mean iou", segmentation(sample, panel))],
        Task::Text => read::text(sample, &pixels(panel)),
        Task::Control(_) => read::control(sample, &pixels(panel)),
        Task::Edit => read::edit(sample, &pixels(panel)),
        Task::Subject => read::subject(sample, &pixels(panel)),
    }
}

/// The mean of a pixel's three values.
fn grey(pixel: &Rgb) -> f32 {
    pixel.iter().map(|c| f32::from(*c)).sum::<f32>() / 3.0
}

fn depth(sample: &Sample, panel: &RgbImage) -> Vec<Score> {
    let metres: Vec<f32> = pixels(panel).iter().map(|pixel| maps::metres(grey(pixel))).collect();
    let error = metrics::depth(&metres, &sample.drawn.depth);
    vec![("absrel", error.abs_rel), ("rmse m", error.rmse), ("delta1", error.delta1)]
}

/// The mean angle where the scene has a surface.
fn normal(sample: &Sample, panel: &RgbImage) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (pixel, truth) in pixels(panel).iter().zip(&sample.drawn.normal) {
        if truth.iter().all(|part| *part == 0.0) {
            continue;
        }
        let drawn = pixel.map(|c| f64::from(c) / 127.5 - 1.0);
        let length = drawn.iter().map(|d| d * d).sum::<f64>().sqrt().max(1e-6);
        let along: f64 = drawn.iter().zip(truth).map(|(d, t)| d / length * f64::from(*t)).sum();
        sum += along.clamp(-1.0, 1.0).acos().to_degrees();
        count += 1.0;
    }
    sum / f64::max(count, 1.0)
}

fn edges(sample: &Sample, map: &str, from: u8, panel: &RgbImage) -> f64 {
    let mask = |panel: &RgbImage| -> Vec<bool> {
        let pixels = pixels(panel);
        pixels.iter().map(|p| grey(p) >= f32::from(from)).collect()
    };
    metrics::edge_f1(&mask(panel), &mask(&sample.panel(map)))
}

/// The mean over the classes that the scene has.
fn segmentation(sample: &Sample, panel: &RgbImage) -> f64 {
    let things = [Shape::Ball, Shape::Box, Shape::Cone, Shape::Cylinder, Shape::Person];
    let classes: Vec<Rgb> = [Class::Sky, Class::Ground]
        .into_iter()
        .chain(things.map(Class::Of))
        .map(palette::class)
        .collect();
    let labels = |panel: &RgbImage| -> Vec<usize> {
        let pixels = pixels(panel);
        pixels.iter().map(|pixel| nearest(*pixel, &classes)).collect()
    };
    let (drawn, truth) = (labels(panel), labels(&sample.panel("segmentation")));
    let of =
        |labels: &[usize], class| -> Vec<bool> { labels.iter().map(|l| *l == class).collect() };
    let present = (0..classes.len()).filter(|class| truth.contains(class));
    let shares: Vec<f64> =
        present.map(|class| metrics::iou(&of(&drawn, class), &of(&truth, class))).collect();
    shares.iter().sum::<f64>() / shares.len().max(1) as f64
}
