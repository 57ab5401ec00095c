//! The model's prompt strings. They live here and nowhere else.
//!
//! Texts of the trained tasks are verbatim those of the model's training; those of `Edit`, `Control` and `Dense` are
//! ours, because the released templates are not public. `{W}x{H}` is always the size of the whole picture.

pub mod tokenizer;

/// The description that the reference implementation uses for every subject.
pub const DEFAULT_SUBJECT: &str = "Bubbly and effervescent with a sparkling allure.";

/// A kind of map that a panel can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Map {
    /// Distance from the camera.
    Depth,
    /// Canny edges.
    Canny,
    /// Soft edges.
    Hed,
    /// Body key points.
    Pose,
    /// Surface normals.
    Normal,
    /// Regions by class.
    Segmentation,
}

impl Map {
    /// The words of the prompt.
    pub fn words(self) -> &'static str {
        match self {
            Self::Depth => "depth map",
            Self::Canny => "canny edge map",
            Self::Hed => "hed edge map",
            Self::Pose => "pose estimation map",
            Self::Normal => "normal map",
            Self::Segmentation => "segmentation map",
        }
    }

    /// The map of a task name as the command line and the specs spell it (`openpose` and `pose` are one).
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "depth" => Self::Depth,
            "canny" => Self::Canny,
            "hed" => Self::Hed,
            "openpose" | "pose" => Self::Pose,
            "normal" => Self::Normal,
            "segmentation" => Self::Segmentation,
            _ => return None,
        })
    }
}

/// What the model is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptTask {
    /// One picture from a caption.
    TextToImage,
    /// A picture and its map, both generated.
    Pair {
        /// What the lower panel shows.
        map: Map,
    },
    /// A picture from a given map.
    Control {
        /// What the given upper panel shows.
        map: Map,
    },
    /// A picture of a given subject.
    Subject {
        /// What the subject looks like; [`DEFAULT_SUBJECT`] when absent.
        description: Option<String>,
    },
    /// A given picture, changed.
    Edit {
        /// What to change.
        instruction: String,
    },
    /// The map of a given picture.
    Dense {
        /// What the lower panel shows.
        map: Map,
    },
}

impl PromptTask {
    /// Whether the upper panel of the picture is an input.
    pub fn needs_panel(&self) -> bool {
        !matches!(self, Self::TextToImage | Self::Pair { .. })
    }
}

/// The prompt of a task: `width` and `height` in pixels of the whole picture, `caption` inserted verbatim.
/// `Edit` carries its own text, so the caption is not used there.
pub fn text(task: &PromptTask, width: u32, height: u32, caption: &str) -> String {
    match task {
        PromptTask::TextToImage => {
            format!(
                "Generate an image of {width}x{height} according to the following prompt:\n{caption}"
            )
        }
        PromptTask::Pair { map } | PromptTask::Dense { map } => format!(
            "Generate a dual-panel image of {width}x{height} where the <lower half> displays a <{}>, while the <upper half> \
             retains the original image for direct visual comparison:\n{caption}",
            map.words()
        ),
        PromptTask::Control { map } => from_panel(width, height, map.words(), caption),
        PromptTask::Subject { description } => {
            from_panel(width, height, description.as_deref().unwrap_or(DEFAULT_SUBJECT), caption)
        }
        PromptTask::Edit { instruction } => format!(
            "Generate a dual-panel image of {width}x{height} where the <upper half> displays the original image, while the \
             <lower half> shows it edited according to the following instruction:\n{instruction}"
        ),
    }
}

fn from_panel(width: u32, height: u32, what: &str, caption: &str) -> String {
    format!(
        "Generate a dual-panel image of {width}x{height} where the <upper half> displays a <{what}>, while the <lower half> \
         retains the original image for direct visual comparison:\n{caption}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_one_line_before_its_instruction() {
        let task = PromptTask::Edit { instruction: "make it night".to_owned() };
        assert_eq!(
            text(&task, 512, 1024, "ignored"),
            "Generate a dual-panel image of 512x1024 where the <upper half> displays the original image, while the <lower \
             half> shows it edited according to the following instruction:\nmake it night"
        );
    }

    #[test]
    fn a_dense_prediction_uses_the_pair_string() {
        for map in [Map::Depth, Map::Normal, Map::Segmentation] {
            assert_eq!(
                text(&PromptTask::Dense { map }, 512, 1024, "c"),
                text(&PromptTask::Pair { map }, 512, 1024, "c")
            );
        }
    }
}
