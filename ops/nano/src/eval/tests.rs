//! The judges against the truth, and the same table twice.

use std::collections::BTreeMap;
use std::path::Path;

use nightshift_engine::prompt::Map;
use nightshift_engine::random::{self, Preset};
use nightshift_engine::{Decoding, EngineError, LoadOptions, Model, RgbImage, Window};

use super::super::sample::Sample;
use super::tasks::Task;
use super::{Drawings, FIRST, Options, run, score};

fn mean(
    task: Task,
    name: &str,
    among: &[Sample],
    panel: impl Fn(&Sample, &Sample) -> RgbImage,
) -> f64 {
    let samples: Vec<&Sample> = among.iter().filter(|s| task.fits(s)).collect();
    let mut values = Vec::new();
    for (i, sample) in samples.iter().enumerate() {
        let panel = panel(sample, samples[(i + 1) % samples.len()]);
        let scores = score::score(task, sample, &panel);
        values.extend(scores.into_iter().filter(|(n, _)| *n == name).map(|(_, v)| v));
    }
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn the_truth_scores_best_and_the_trivial_answer_badly() {
    let checks = [
        (Task::Dense(Map::Depth), "absrel", 0.002, 0.05),
        (Task::Dense(Map::Normal), "angle deg", 1.0, 15.0),
        (Task::Dense(Map::Canny), "edge f1", 1.0, 0.7),
        (Task::Dense(Map::Hed), "edge f1", 1.0, 0.8),
        (Task::Dense(Map::Pose), "joints px", 2.0, 6.0),
        (Task::Dense(Map::Segmentation), "mean iou", 1.0, 0.7),
        (Task::Text, "one: colour", 0.99, 0.5),
        (Task::Text, "two: colours", 0.95, 0.3),
        (Task::Control(Map::Depth), "mask iou", 0.8, 0.4),
        (Task::Edit, "error elsewhere", 0.0, 0.0),
        (Task::Edit, "done", 0.95, 0.2),
        (Task::Subject, "colour+shape", 0.9, 0.3),
    ];
    let samples: Vec<Sample> = (FIRST..FIRST + 80).map(Sample::new).collect();
    let mut told = String::new();
    let mut wrong = false;
    for (task, name, truth, trivial) in checks {
        let best = mean(task, name, &samples, |sample, _| sample.panel(task.wanted()));
        let worst = mean(task, name, &samples, |sample, other| task.trivial(sample, other));
        let error = truth < trivial || name.contains("error");
        let good = match error {
            true => best <= truth && worst >= trivial,
            false => best >= truth && worst <= trivial,
        };
        wrong |= !good;
        told += &format!("{} {name}: {best:.4} {worst:.4} {good}\n", task.name());
    }
    assert!(!wrong, "{told}");
}

/// The bound of the shapes must leave room above their goal of 0.85.
#[test]
fn the_shapes_of_the_tokenizers_copies_are_read_right() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("checkpoint");
    let model = Model::load(&dir, &LoadOptions::default()).expect("it loads");
    let mut seen = BTreeMap::<_, Vec<f64>>::new();
    let samples = (FIRST..).map(Sample::new);
    for sample in samples.filter(|s| s.scene.objects.len() == 1).take(100) {
        let codes = model.encode_panel(&sample.picture()).expect("codes");
        let copy = model.decode_codes(&codes, 8, 8).expect("a picture");
        let scores = score::score(Task::Text, &sample, &copy);
        let (_, right) = scores.iter().find(|(name, _)| *name == "one: shape").expect("judged");
        seen.entry(sample.scene.objects[0].shape).or_default().push(*right);
    }
    let right: f64 = seen.values().flatten().sum();
    assert!(right >= 92.0, "{right} of 100: {seen:?}");
}

#[test]
fn the_same_examination_gives_the_same_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("model");
    random::write(&dir, Preset::Tiny, 3).expect("a model is written");
    let table = |slots: usize, threads: usize| {
        let load = LoadOptions { threads, ..LoadOptions::default() };
        let model = Model::load(&dir, &load).expect("it loads");
        let options = Options {
            tasks: Task::all(),
            first: FIRST,
            scenes: 4,
            sampled: 4,
            cfg: None,
            decoding: Decoding::Jacobi { window: Window::Fixed(8) },
            slots,
        };
        let look = |_: &Drawings<'_>| Ok::<(), EngineError>(());
        run(&model, &options, look).expect("it runs")
    };
    let (one, other) = (table(1, 1), table(3, 2));
    assert_eq!(one.rows(true), other.rows(true));
    assert_eq!(one.tasks.len(), Task::all().len());
}
