//! The words of a spec: what may stand where a word is asked for.

use serde::{Deserialize, Serialize};

/// The six kinds of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A picture from a prompt.
    TextToImage,
    /// A picture and a map of it, drawn together.
    ImagePairs,
    /// Pictures of given subjects in new scenes.
    SubjectSet,
    /// A given picture, changed by an instruction.
    Edit,
    /// A picture that follows a given map.
    Controllable,
    /// A map of a given picture.
    DensePrediction,
}

/// The maps that the model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MapKind {
    /// Depth, near is bright.
    Depth,
    /// Surface normals.
    Normal,
    /// Canny edges.
    Canny,
    /// HED edges.
    Hed,
    /// Body poses.
    Openpose,
    /// Segments in flat colours.
    Segmentation,
}

/// How an input picture is brought into its panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Scaled to cover the panel, then cut around the centre.
    #[default]
    CenterCrop,
    /// Scaled to lie inside the panel, then padded.
    Pad,
}

/// The grid that a predicted map is stored on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restore {
    /// Resampled back to the pixels of the input.
    #[default]
    InputSize,
    /// The panel as the model drew it.
    Panel,
}

/// How a sequence of codes is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decoding {
    /// Windows with fixed noise; the same codes as `Sequential`.
    #[default]
    Jacobi,
    /// Speculative sampling with re-coupled drafts; the same law, other codes.
    Coupled,
    /// One code at a time: the definition.
    Sequential,
}

/// How many positions are tried at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// The worker chooses from measured tables; the codes do not depend on it under jacobi.
    #[default]
    Auto,
    /// So many, 1 to 256.
    Fixed(u32),
}

/// How guidance depends on the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuidanceSchedule {
    /// The same everywhere.
    #[default]
    Constant,
    /// As the reference implementation.
    Reference,
}

/// Form of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// 4 bits in groups of 128.
    #[default]
    Int4,
    /// 16 bits.
    Bf16,
    /// 32 bits.
    F32,
}

/// Form of the key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvCache {
    /// 16 bits.
    #[default]
    Bf16,
    /// 32 bits.
    F32,
    /// 8 bits.
    Int8,
}

/// What a destination that is already in use means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// The job is refused.
    #[default]
    Refuse,
    /// Objects of the same items are adopted, the rest is made.
    Resume,
    /// Objects are replaced.
    Overwrite,
}

/// The form of the metadata table beside the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sidecar {
    /// `metadata.parquet`.
    #[default]
    Parquet,
    /// `metadata.jsonl`.
    Jsonl,
}

/// Which way the axes of a normal map point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormalFrame {
    /// x right, y up, z towards the viewer.
    #[default]
    OpenglCamera,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// What happens with items in hand when the window closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenWindowCloses {
    /// Nothing is begun that would last beyond the end, by the time that nine of ten items took; what is in hand is finished.
    #[default]
    Pause,
    /// Items are begun up to the end; what is in hand is finished.
    FinishItem,
    /// A shard that was begun is finished.
    Overrun,
}

/// What becomes of a run that is due while an earlier one is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenStillRunning {
    /// It starts when that one is over.
    #[default]
    Wait,
    /// It is left out.
    Skip,
    /// Both run.
    Overlap,
}

/// A class of failures of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryClass {
    /// The worker was not heard any more.
    WorkerLost,
    /// Too little memory.
    Oom,
    /// The object store, the database or the worker's disk.
    Storage,
    /// Anything else.
    Other,
}

/// Writes `as_str` and `Display` for an enum whose serde names are the given strings.
macro_rules! names {
    ($type:ty { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            /// All names.
            pub(crate) const WORDS: &'static [&'static str] = &[$($name),+];

            /// The name as it is written in specs and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use names;

names!(Kind {
    TextToImage => "text_to_image", ImagePairs => "image_pairs", SubjectSet => "subject_set",
    Edit => "edit", Controllable => "controllable", DensePrediction => "dense_prediction",
});
names!(MapKind {
    Depth => "depth", Normal => "normal", Canny => "canny", Hed => "hed", Openpose => "openpose", Segmentation => "segmentation",
});
names!(Weights { Int4 => "int4", Bf16 => "bf16", F32 => "f32" });
names!(KvCache { Bf16 => "bf16", F32 => "f32", Int8 => "int8" });
names!(Decoding { Jacobi => "jacobi", Coupled => "coupled", Sequential => "sequential" });
names!(GuidanceSchedule { Constant => "constant", Reference => "reference" });
impl Fit {
    /// The name as it is written in specs and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CenterCrop => "center_crop",
            Self::Pad => "pad",
        }
    }
}
names!(WhenStillRunning { Wait => "wait", Skip => "skip", Overlap => "overlap" });
names!(RetryClass { WorkerLost => "worker_lost", Oom => "oom", Storage => "storage", Other => "other" });

names!(OnExisting { Refuse => "refuse", Resume => "resume", Overwrite => "overwrite" });
names!(Sidecar { Parquet => "parquet", Jsonl => "jsonl" });
names!(Day { Mon => "mon", Tue => "tue", Wed => "wed", Thu => "thu", Fri => "fri", Sat => "sat", Sun => "sun" });
names!(WhenWindowCloses { Pause => "pause", FinishItem => "finish_item", Overrun => "overrun" });
names!(Restore { InputSize => "input_size", Panel => "panel" });

/// What stands inside the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Embed {
    /// PNG text chunks `parameters` and `nightshift`.
    pub png_text: bool,
    /// Whether the prompt is left out of what is embedded.
    pub redact_prompt: bool,
}
