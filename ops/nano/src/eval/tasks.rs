//! The tasks: what each is asked, which panel it draws, and what somebody who knows nothing would draw.

use std::str::FromStr;

use nightshift_engine::RgbImage;
use nightshift_engine::prompt::{Map, PromptTask};

use super::super::maps;
use super::super::sample::Sample;
use super::super::scene::SIDE;

/// A task of the examination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// The map of a given picture.
    Dense(Map),
    /// A picture from its caption.
    Text,
    /// A picture from a given map and its caption.
    Control(Map),
    /// A given picture, changed.
    Edit,
    /// A given object in another scene.
    Subject,
}

const MAPS: [Map; 6] =
    [Map::Depth, Map::Normal, Map::Canny, Map::Hed, Map::Pose, Map::Segmentation];

impl Task {
    /// All of them, in the order of the table.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let dense = MAPS.map(Self::Dense);
        let control = MAPS.map(Self::Control);
        [&dense[..], &[Self::Text], &control, &[Self::Edit, Self::Subject]].concat()
    }

    /// Its name: `dense depth`, `text`, `control canny`.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Dense(map) => format!("dense {}", file(map)),
            Self::Text => "text".to_owned(),
            Self::Control(map) => format!("control {}", file(map)),
            Self::Edit => "edit".to_owned(),
            Self::Subject => "subject".to_owned(),
        }
    }

    /// Whether it is drawn from the law and not taken at its best.
    #[must_use]
    pub fn sampled(self) -> bool {
        !matches!(self, Self::Dense(_))
    }

    /// Whether a scene can be asked about: poses need a person.
    #[must_use]
    pub fn fits(self, sample: &Sample) -> bool {
        match self {
            Self::Dense(Map::Pose) | Self::Control(Map::Pose) => sample.joints.is_some(),
            _ => true,
        }
    }

    /// The panel that is given, by its file.
    #[must_use]
    pub fn given(self) -> Option<&'static str> {
        match self {
            Self::Text => None,
            Self::Dense(_) | Self::Edit => Some("picture"),
            Self::Control(map) => Some(file(map)),
            Self::Subject => Some("subject"),
        }
    }

    /// The panel that is to be drawn, by its file.
    #[must_use]
    pub fn wanted(self) -> &'static str {
        match self {
            Self::Dense(map) => file(map),
            Self::Text | Self::Control(_) => "picture",
            Self::Edit => "edited",
            Self::Subject => "subject_scene",
        }
    }

    /// What the engine is asked, and the caption.
    #[must_use]
    pub fn asked(self, sample: &Sample) -> (PromptTask, &str) {
        let caption = sample.caption.text.as_str();
        match self {
            Self::Dense(map) => (PromptTask::Dense { map }, ""),
            Self::Text => (PromptTask::TextToImage, caption),
            Self::Control(map) => (PromptTask::Control { map }, caption),
            Self::Edit => {
                let instruction = sample.edit.instruction.clone();
                (PromptTask::Edit { instruction }, "")
            }
            Self::Subject => {
                let description = Some(sample.subject.description.clone());
                (PromptTask::Subject { description }, &sample.subject.caption)
            }
        }
    }

    /// The baseline: the mean for depths and normals, the unchanged picture for edits, else another scene's panel.
    #[must_use]
    pub fn trivial(self, sample: &Sample, other: &Sample) -> RgbImage {
        match self {
            Self::Dense(Map::Depth) => maps::panel(&[[128; 3]; SIDE * SIDE]),
            Self::Dense(Map::Normal) => maps::panel(&[mean_normal(sample); SIDE * SIDE]),
            Self::Edit => sample.picture(),
            _ => other.panel(self.wanted()),
        }
    }
}

/// The mean of a scene's normals, as its map would show it.
fn mean_normal(sample: &Sample) -> [u8; 3] {
    let mut sum = [0.0f32; 3];
    for normal in &sample.drawn.normal {
        for (sum, part) in sum.iter_mut().zip(normal) {
            *sum += part;
        }
    }
    let length = sum.iter().map(|s| s * s).sum::<f32>().sqrt().max(1e-6);
    sum.map(|s| ((s / length + 1.0) / 2.0 * 255.0 + 0.5) as u8)
}

/// A map's name among the panels.
fn file(map: Map) -> &'static str {
    match map {
        Map::Depth => "depth",
        Map::Canny => "canny",
        Map::Hed => "hed",
        Map::Pose => "pose",
        Map::Normal => "normal",
        Map::Segmentation => "segmentation",
    }
}

/// Some tasks, by a name or the beginning of one: `dense`, `control-depth`, `text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(String);

impl Filter {
    /// Whether it names a task.
    #[must_use]
    pub fn names(&self, task: Task) -> bool {
        let name = task.name();
        name == self.0 || name.split(' ').next() == Some(&self.0)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let filter = Self(text.trim().replace('-', " "));
        if Task::all().into_iter().any(|task| filter.names(task)) {
            return Ok(filter);
        }
        let names: Vec<String> =
            Task::all().into_iter().map(|task| task.name().replace(' ', "-")).collect();
        Err(format!("the tasks are dense, control, {}", names.join(", ")))
    }
}
