//! Edits and subjects: the second picture of a seed, and the words that lead to it.

use serde::Serialize;

use super::caption::with_article;
use super::layout;
use super::rng::{Rng, Stream};
use super::scene::{Backdrop, Colour, Object, Scene, Shape, Size, Time};

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// One object gets another colour.
    Recolour,
    /// One object goes.
    Remove,
    /// One object comes.
    Add,
    /// Another time of day.
    Time,
}

/// An edit and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// What it does.
    pub op: Op,
    /// In words.
    pub instruction: String,
    /// The object that it is about: an index into the old scene, for [`Op::Add`] into the new one.
    pub object: Option<usize>,
    /// The new colour of [`Op::Recolour`].
    pub colour: Option<Colour>,
    /// The new time of [`Op::Time`].
    pub time: Option<Time>,
    /// The edited scene.
    pub scene: Scene,
}

/// The edit of a seed's scene.
#[must_use]
pub fn edit(scene: &Scene, seed: u64) -> Edit {
    let mut rng = Rng::new(seed, Stream::Edit);
    match rng.below(100) {
        0..35 => recolour(scene, &mut rng),
        35..55 => remove(scene, &mut rng),
        55..75 => add(scene, &mut rng).unwrap_or_else(|| recolour(scene, &mut rng)),
        _ => change_time(scene, &mut rng),
    }
}

fn recolour(scene: &Scene, rng: &mut Rng) -> Edit {
    let object = rng.below(scene.objects.len());
    let mut colours = Colour::ALL.to_vec();
    colours.retain(|colour| scene.objects.iter().all(|object| object.colour != *colour));
    let colour = rng.pick(&colours);
    let old = &scene.objects[object];
    let instruction = match old.shape {
        Shape::Person => format!("dress the person in {}", colour.word()),
        _ => format!("make the {} {}", old.name(), colour.word()),
    };
    let mut scene = scene.clone();
    scene.objects[object].colour = colour;
    Edit {
        op: Op::Recolour,
        instruction,
        object: Some(object),
        colour: Some(colour),
        time: None,
        scene,
    }
}

fn remove(scene: &Scene, rng: &mut Rng) -> Edit {
    let object = rng.below(scene.objects.len());
    let mut scene = scene.clone();
    let gone = scene.objects.remove(object);
    let instruction = format!("remove the {}", short(&gone));
    Edit { op: Op::Remove, instruction, object: Some(object), colour: None, time: None, scene }
}

fn add(scene: &Scene, rng: &mut Rng) -> Option<Edit> {
    let thing = layout::addition(rng, scene)?;
    let instruction = format!("add {} {}", with_article(&thing.name()), thing.position().phrase());
    let mut scene = scene.clone();
    let object = scene.objects.len();
    scene.objects.push(thing);
    Some(Edit { op: Op::Add, instruction, object: Some(object), colour: None, time: None, scene })
}

fn change_time(scene: &Scene, rng: &mut Rng) -> Edit {
    let mut times = Time::ALL.to_vec();
    times.retain(|time| *time != scene.time());
    let time = rng.pick(&times);
    let mut scene = scene.clone();
    scene.backdrop = Backdrop::Outdoors(time);
    let instruction = format!("change the time to {}", time.noun());
    Edit { op: Op::Time, instruction, object: None, colour: None, time: Some(time), scene }
}

fn short(object: &Object) -> String {
    match object.shape {
        Shape::Person => "person".to_owned(),
        _ => object.name(),
    }
}

/// An object alone, and the same object elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Index of the object in the seed's scene.
    pub object: usize,
    /// What it is, without an article: the `{what}` of the prompt.
    pub description: String,
    /// Where it is in the other scene; its colour is not said.
    pub caption: String,
    /// The object alone on plain ground.
    pub alone: Scene,
    /// The other scene; the subject is its first object.
    pub scene: Scene,
}

/// The subject of a seed's scene.
#[must_use]
pub fn subject(scene: &Scene, seed: u64) -> Subject {
    let mut rng = Rng::new(seed, Stream::Subject);
    let object = rng.below(scene.objects.len());
    let mut alone = scene.objects[object];
    alone.column = 32.0;
    if alone.shape == Shape::Person {
        (alone.row, alone.width) = (54.0, 14.5);
    } else {
        (alone.row, alone.width, alone.size) = (47.0, 28.0, Size::Large);
    }
    let elsewhere = layout::subject_scene(&mut rng, &alone);
    let caption = subject_caption(&elsewhere);
    let alone =
        Scene { kind: scene.kind, backdrop: Backdrop::Plain, horizon: 24.0, objects: vec![alone] };
    Subject { object, description: scene.objects[object].name(), caption, alone, scene: elsewhere }
}

fn subject_caption(scene: &Scene) -> String {
    let place = |object: &Object| object.position().phrase();
    let subject = &scene.objects[0];
    let mut caption = format!("the {} {}", subject.shape.word(), place(subject));
    for other in &scene.objects[1..] {
        caption += &format!(" and {} {}", with_article(&other.name()), place(other));
    }
    format!("{caption} {}", scene.time().phrase())
}
