//! Captions: a small grammar whose every sentence is true of its scene.
//!
//! ```text
//! caption  = subject [" " time]
//! subject  = a [size] name [place]                                     one thing, or a person
//!          | a name place " and " a name place [", the " name " is nearer"]
//!          | "two " shapes ": " colour place " and " colour place       two of one shape
//!          | "three objects from left to right: " a name ", " a name " and " a name
//!          | "three " shapes " from left to right: " colour ", " colour " and " colour
//!          | a name " in front of " a name
//! name     = colour shape | "person in " colour [arms]
//! place    = "on the left" | "in the middle" | "on the right"
//! time     = "by day" | "at dusk" | "at night"
//! arms     = "with arms down" | "with arms out" | "with arms up" | "waving"
//! ```

use serde::Serialize;

use super::rng::{Rng, Stream};
use super::scene::{Kind, Object, Scene, Shape, Size};

/// Depths further apart than this many metres may be told apart in words.
pub const NEARER: f32 = 1.2;

/// What a caption says beyond shapes and colours, which it always says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mentions {
    /// The position of each object.
    pub position: bool,
    /// That an object is small or large.
    pub size: bool,
    /// Time of day.
    pub time: bool,
    /// Which of two objects is nearer.
    pub depth: bool,
}

/// A caption and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The sentence.
    pub text: String,
    /// What it says.
    pub mentions: Mentions,
}

/// The caption of a seed's scene; `depths` are those of the objects' feet.
#[must_use]
pub fn caption(scene: &Scene, depths: &[f32], seed: u64) -> Caption {
    let mut rng = Rng::new(seed, Stream::Caption);
    let several = scene.objects.len() > 1;
    let sized = scene.objects.iter().any(|object| object.size == Size::Large)
        || (!several && scene.objects[0].size == Size::Small);
    let apart = depths.len() == 2 && (depths[0] - depths[1]).abs() > NEARER;
    let mentions = Mentions {
        position: scene.kind == Kind::Three || (scene.kind != Kind::Front && rng.percent(85)),
        size: sized && scene.objects.iter().all(|object| object.shape != Shape::Person),
        time: rng.percent(85),
        depth: scene.kind == Kind::Front || (scene.kind == Kind::Two && apart && rng.percent(60)),
    };
    let mut text = match (scene.kind, scene.objects.as_slice()) {
        (Kind::Front, [front, back]) => {
            format!("{} in front of {}", told(front, mentions), told(back, mentions))
        }
        (Kind::Three, objects) => three(objects),
        (_, [a, b]) => two(a, b, mentions),
        (_, objects) => placed(&objects[0], mentions),
    };
    if mentions.depth && scene.kind == Kind::Two {
        let nearer = if depths[0] < depths[1] { 0 } else { 1 };
        text += &format!(", the {} is nearer", scene.objects[nearer].name());
    }
    if mentions.time {
        let comma = if mentions.depth && scene.kind == Kind::Two { "," } else { "" };
        text += &format!("{comma} {}", scene.time().phrase());
    }
    Caption { text, mentions }
}

/// `a large red ball`, `an orange box`, `a person in blue waving`.
fn told(object: &Object, mentions: Mentions) -> String {
    let size = if mentions.size { object.size.word() } else { "" };
    match object.shape {
        Shape::Person => format!("a {} {}", object.name(), object.body.arms.phrase()),
        _ => with_article(&format!("{size}{}", object.name())),
    }
}

/// With `a` or `an` before it.
#[must_use]
pub fn with_article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}

fn placed(object: &Object, mentions: Mentions) -> String {
    let told = told(object, mentions);
    if mentions.position { format!("{told} {}", object.position().phrase()) } else { told }
}

fn two(a: &Object, b: &Object, mentions: Mentions) -> String {
    if a.shape == b.shape && mentions.position && !mentions.size {
        let one =
            |object: &Object| format!("{} {}", object.colour.word(), object.position().phrase());
        return format!("two {}: {} and {}", plural(a.shape), one(a), one(b));
    }
    format!("{} and {}", placed(a, mentions), placed(b, mentions))
}

fn three(objects: &[Object]) -> String {
    let same = objects.windows(2).all(|pair| pair[0].shape == pair[1].shape);
    let one = |object: &Object| {
        if same { object.colour.word().to_owned() } else { with_article(&object.name()) }
    };
    let all: Vec<String> = objects.iter().map(one).collect();
    let what = if same { plural(objects[0].shape) } else { "objects" };
    format!("three {what} from left to right: {}, {} and {}", all[0], all[1], all[2])
}

fn plural(shape: Shape) -> &'static str {
    match shape {
        Shape::Ball => "balls",
        Shape::Box => "boxes",
        Shape::Cone => "cones",
        Shape::Cylinder => "cylinders",
        Shape::Person => "people",
    }
}
