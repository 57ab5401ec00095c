//! All that belongs to one seed: pictures, maps and words.

use nightshift_engine::RgbImage;
use serde::Serialize;
use serde_json::{Value, json};

use super::caption::{self, Caption};
use super::edit::{self, Edit, Subject};
use super::layout;
use super::maps;
use super::person::Joints;
use super::render::{self, Camera, Drawn, FIRST_OBJECT};
use super::scene::{Object, SIDE, Scene, Shape};

/// The first seed of the pictures that no training sees.
pub const HELD_OUT: u64 = 1_000_000_000;
/// The most scenes of one command.
pub const MAX_SCENES: u64 = 1 << 32;
/// The last seed that a range may begin with, so that none ends beyond the numbers.
pub const LAST: u64 = u64::MAX - MAX_SCENES;

/// One seed's scene and everything made from it.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The seed.
    pub seed: u64,
    /// What is where.
    pub scene: Scene,
    /// Its picture and exact values.
    pub drawn: Drawn,
    /// In words.
    pub caption: Caption,
    /// The joints of the person, as columns and rows.
    pub joints: Option<Joints<[f32; 2]>>,
    /// The edit.
    pub edit: Edit,
    /// The edited scene, drawn.
    pub edited: Drawn,
    /// The subject.
    pub subject: Subject,
    /// Pixels a second object of its own scene takes nothing from: the subject's other scene, drawn.
    pub elsewhere: Drawn,
}

impl Sample {
    /// Makes everything of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let scene = layout::scene(seed);
        let camera = Camera::new(scene.horizon);
        let depths: Vec<f32> =
            scene.objects.iter().map(|object| camera.depth_of(object.row)).collect();
        let person = scene.objects.iter().find(|object| object.shape == Shape::Person);
        let joints = person.map(|person| camera.joints(person).map(|joint| camera.project(joint)));
        let edit = edit::edit(&scene, seed);
        let subject = edit::subject(&scene, seed);
        Self {
            seed,
            drawn: render::draw(&scene),
            caption: caption::caption(&scene, &depths, seed),
            joints,
            edited: render::draw(&edit.scene),
            edit,
            elsewhere: render::draw(&subject.scene),
            subject,
            scene,
        }
    }

    /// The picture.
    #[must_use]
    pub fn picture(&self) -> RgbImage {
        maps::panel(&self.drawn.picture)
    }

    /// A panel by the name of its file.
    ///
    /// # Panics
    /// Another name than those of [`PANELS`].
    #[must_use]
    pub fn panel(&self, name: &str) -> RgbImage {
        match name {
            "picture" => self.picture(),
            "depth" => maps::depth(&self.drawn),
            "normal" => maps::normal(&self.drawn),
            "canny" => maps::edges(&self.picture()),
            "hed" => maps::soft_edges(&self.picture()),
            "pose" => maps::pose(self.joints.as_ref()),
            "segmentation" => maps::segmentation(&self.scene, &self.drawn),
            "edited" => maps::panel(&self.edited.picture),
            "subject" => maps::panel(&render::draw(&self.subject.alone).picture),
            "subject_scene" => maps::panel(&self.elsewhere.picture),
            other => unreachable!("unknown panel {other}"),
        }
    }

    /// The line of `scenes.jsonl`.
    #[must_use]
    pub fn line(&self) -> Value {
        let objects = described(&self.scene, &self.drawn);
        let edit = &self.edit;
        json!({
            "seed": self.seed,
            "caption": self.caption.text,
            "mentions": self.caption.mentions,
            "kind": self.scene.kind,
            "time": self.scene.time(),
            "horizon": self.scene.horizon,
            "objects": objects,
            "keypoints": self.joints.map(|joints| joints.map(|p| p.map(rounded))),
            "edit": {
                "op": edit.op,
                "instruction": edit.instruction,
                "object": edit.object,
                "colour": edit.colour,
                "time": edit.time,
                "objects": described(&edit.scene, &self.edited),
            },
            "subject": {
                "object": self.subject.object,
                "description": self.subject.description,
                "caption": self.subject.caption,
                "time": self.subject.scene.time(),
                "objects": described(&self.subject.scene, &self.elsewhere),
            },
        })
    }
}

/// The panels, by the names of their files.
pub const PANELS: [&str; 10] = [
    "picture",
    "depth",
    "normal",
    "canny",
    "hed",
    "pose",
    "segmentation",
    "edited",
    "subject",
    "subject_scene",
];

#[derive(Serialize)]
struct Described {
    shape: &'static str,
    colour: &'static str,
    position: super::scene::Position,
    size: super::scene::Size,
    /// Depth of the foot in metres.
    depth: f64,
    /// First column, first row, one past the last column, one past the last row of what is seen.
    #[serde(rename = "box")]
    bounds: [usize; 4],
    /// Pixels that are seen.
    pixels: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    arms: Option<super::scene::Arms>,
}

fn described(scene: &Scene, drawn: &Drawn) -> Vec<Described> {
    let camera = Camera::new(scene.horizon);
    let one = |(i, object): (usize, &Object)| {
        let mask = mask(drawn, i);
        Described {
            shape: object.shape.word(),
            colour: object.colour.word(),
            position: object.position(),
            size: object.size,
            depth: rounded(camera.depth_of(object.row)),
            bounds: bounds(&mask).unwrap_or_default(),
            pixels: mask.iter().filter(|seen| **seen).count(),
            arms: (object.shape == Shape::Person).then_some(object.body.arms),
        }
    };
    scene.objects.iter().enumerate().map(one).collect()
}

/// Where an object is seen.
#[must_use]
pub fn mask(drawn: &Drawn, object: usize) -> Vec<bool> {
    drawn.owner.iter().map(|owner| *owner == FIRST_OBJECT + object as u8).collect()
}

/// First column, first row, one past the last column, one past the last row.
#[must_use]
pub fn bounds(mask: &[bool]) -> Option<[usize; 4]> {
    let seen =
        mask.iter().enumerate().filter(|(_, seen)| **seen).map(|(i, _)| (i % SIDE, i / SIDE));
    seen.fold(None, |found: Option<[usize; 4]>, (x, y)| {
        let [x0, y0, x1, y1] = found.unwrap_or([x, y, x, y]);
        Some([x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1)])
    })
}

/// Two decimals: what a reader needs, and the same text on every machine.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}
