//! What a caller asks for and what it gets back.

use crate::image::RgbImage;

use crate::error::EngineError;

/// One picture to make.
#[derive(Debug, Clone)]
pub struct Request {
    /// The prompt's text, without the separator token (see [`crate::prompt::text`]).
    pub prompt: String,
    /// Width of the whole picture in pixels, a multiple of 32.
    pub width: u32,
    /// Height of the whole picture in pixels, both panels when there are two; a multiple of 32 (64 with a given panel).
    pub height: u32,
    /// The upper panel, exactly `width` by `height / 2`, when it is given and only the lower one is made.
    pub given: Option<RgbImage>,
    /// How tokens are chosen.
    pub sampler: Sampler,
    /// All randomness of the request. Below 2^63 by convention; every bit counts.
    pub seed: u64,
}

/// How tokens are chosen from the model's scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    /// Guidance scale `g`. Exactly 1.0 runs no unconditional branch.
    pub cfg: f32,
    /// Scores below the `top_k`-th largest are dropped; ties at the threshold stay. At least 1.
    pub top_k: usize,
    /// Scores are divided by it after top-k. 0 takes the largest score.
    pub temperature: f32,
    /// How `cfg` is applied along the picture.
    pub guidance: GuidanceSchedule,
    /// How many positions are evaluated at once, and under which rule.
    pub decoding: Decoding,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            cfg: 4.0,
            top_k: 4096,
            temperature: 1.0,
            guidance: GuidanceSchedule::Constant,
            decoding: Decoding::Jacobi { window: Window::Auto },
        }
    }
}

/// How the guidance scale runs along the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuidanceSchedule {
    /// The same scale at every position.
    Constant,
    /// The reference implementation's position-dependent scale.
    Reference,
}

/// How tokens are decoded. `Sequential` defines the result; `Jacobi` gives the same token ids in fewer steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoding {
    /// One code a step.
    Sequential,
    /// A window of positions a step with fixed noise; token-identical to `Sequential`.
    Jacobi {
        /// Code positions evaluated at once.
        window: Window,
    },
    /// Speculative sampling with re-coupled drafts: the same law, other draws.
    Coupled {
        /// Code positions evaluated at once; part of the result's identity.
        window: Window,
    },
}

/// Code positions evaluated at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// The engine chooses.
    Auto,
    /// So many, at least 1.
    Fixed(usize),
}

/// A finished picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// The whole picture, given panel included. `None` when the model was loaded for codes only.
    pub image: Option<RgbImage>,
    /// Codes of the whole picture, row-major, `height / 8` rows of `width / 8`.
    pub codes: Vec<u32>,
    /// Token ids after the forced header or the given panel, row ends and image end included.
    pub generated: Vec<u32>,
    /// Number of generated tokens (the length of `generated`).
    pub tokens: u32,
    /// Forward passes that chose its codes, prefill left out; sequential decoding takes one for each generated code.
    pub steps: u32,
}

/// What happened to a request during one step.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Tokens were accepted.
    Progress {
        /// The request.
        id: u64,
        /// Generated tokens so far.
        done: u32,
        /// Generated tokens in the end.
        total: u32,
    },
    /// The picture is ready; its slot is free.
    Finished {
        /// The request.
        id: u64,
        /// What was made.
        picture: Box<Picture>,
    },
    /// The request failed; its slot is free.
    Failed {
        /// The request.
        id: u64,
        /// Why.
        error: EngineError,
    },
}
