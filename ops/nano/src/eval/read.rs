//! Judges a picture by what the palette's detector reads in it, in the spirit of GenEval.

use super::super::detect::{Found, Seen, detect};
use super::super::edit::Op;
use super::super::metrics;
use super::super::palette::Rgb;
use super::super::sample::{Sample, mask};
use super::super::scene::{Kind, Object};
use super::measure::Score;

fn share(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// The found object of an object's colour; no two objects of a scene share one.
fn of<'a>(seen: &'a Seen, object: &Object) -> Option<&'a Found> {
    let same = seen.objects.iter().filter(|f| f.colour == object.colour);
    same.max_by_key(|found| found.mask.iter().filter(|m| **m).count())
}

/// What a caption says, against what is seen.
#[must_use]
pub fn text(sample: &Sample, picture: &[Rgb]) -> Vec<Score> {
    let seen = detect(picture);
    let (objects, mentions) = (&sample.scene.objects, sample.caption.mentions);
    let all = |right: &dyn Fn(&Object, &Found) -> bool| {
        let one = |object: &Object| of(&seen, object).is_some_and(|found| right(object, found));
        share(objects.iter().all(one))
    };
    let colours = all(&|_, _| true);
    let shapes = all(&|object, found| found.shape == object.shape);
    let places = all(&|object, found| found.position() == object.position());
    let mut scores = vec![("count", share(seen.objects.len() == objects.len()))];
    if mentions.time {
        scores.push(("time", share(seen.time == sample.scene.time())));
    }
    let names: [&'static str; 3] = match objects.len() {
        1 => {
            // The shape and the place of the largest thing, whatever its colour.
            let area = |found: &&Found| found.mask.iter().filter(|m| **m).count();
            let largest = seen.objects.iter().max_by_key(area);
            let shape = largest.is_some_and(|found| found.shape == objects[0].shape);
            let place = largest.is_some_and(|found| found.position() == objects[0].position());
            scores.push(("one: colour", colours));
            scores.push(("one: shape", share(shape)));
            if mentions.position {
                scores.push(("one: position", share(place)));
            }
            return scores;
        }
        2 => ["two: colours", "two: colours+shapes", "two: positions"],
        _ => ["three: colours", "three: colours+shapes", "three: positions"],
    };
    scores.push((names[0], colours));
    scores.push((names[1], shapes));
    if mentions.position && sample.scene.kind != Kind::Front {
        scores.push((names[2], places));
    }
    scores
}

/// How well the objects' places agree with the best found ones, whatever their colour; and the share of right colours.
#[must_use]
pub fn control(sample: &Sample, picture: &[Rgb]) -> Vec<Score> {
    let seen = detect(picture);
    let objects = &sample.scene.objects;
    let best = |object: usize| {
        let truth = mask(&sample.drawn, object);
        let shares = seen.objects.iter().map(|f| metrics::iou(&f.mask, &truth));
        shares.fold(0.0, f64::max)
    };
    let n = objects.len().max(1) as f64;
    let coloured = objects.iter().filter(|o| of(&seen, o).is_some()).count();
    vec![
        ("mask iou", (0..objects.len()).map(best).sum::<f64>() / n),
        ("colours", coloured as f64 / n),
    ]
}

/// The mean difference of two pictures where `at` is set, in steps of 8 bits.
fn difference(a: &[Rgb], b: &[Rgb], at: &[bool]) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for ((a, b), _) in a.iter().zip(b).zip(at).filter(|(_, at)| **at) {
        let parts = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)));
        sum += parts.sum::<f64>();
        count += 3.0;
    }
    (count > 0.0).then(|| sum / count)
}

/// Whether the picture changed where it should, stayed where it should, and whether the detector sees what was asked for.
#[must_use]
pub fn edit(sample: &Sample, picture: &[Rgb]) -> Vec<Score> {
    let (source, wanted) = (&sample.drawn.picture, &sample.edited.picture);
    let inside: Vec<bool> = source.iter().zip(wanted).map(|(a, b)| a != b).collect();
    let outside: Vec<bool> = inside.iter().map(|inside| !inside).collect();
    let mut scores = Vec::new();
    let measures = [
        ("change inside", difference(picture, source, &inside)),
        ("error inside", difference(picture, wanted, &inside)),
    ];
    scores.extend(measures.into_iter().filter_map(|(name, v)| Some((name, v?))));
    if sample.edit.op != Op::Time {
        let elsewhere = difference(picture, source, &outside);
        scores.extend(elsewhere.map(|value| ("error elsewhere", value)));
    }
    let right = share(obeyed(sample, &detect(picture)));
    let name = match sample.edit.op {
        Op::Recolour => "recolour done",
        Op::Remove => "remove done",
        Op::Add => "add done",
        Op::Time => "time done",
    };
    scores.extend([("done", right), (name, right)]);
    scores
}

/// Whether the detector confirms an edit.
fn obeyed(sample: &Sample, seen: &Seen) -> bool {
    let (edit, old) = (&sample.edit, &sample.scene.objects);
    let new = &edit.scene.objects;
    // What the edit is not about must still be there, or an empty picture would be a success.
    let kept = new.iter().filter(|object| old.contains(object));
    if edit.op != Op::Time && kept.into_iter().any(|object| of(seen, object).is_none()) {
        return false;
    }
    match (edit.op, edit.object) {
        (Op::Time, _) => edit.time == Some(seen.time),
        (Op::Remove, Some(i)) => of(seen, &old[i]).is_none(),
        (Op::Add, Some(i)) => {
            of(seen, &new[i]).is_some_and(|found| found.position() == new[i].position())
        }
        (Op::Recolour, Some(i)) => {
            // Most of what has the colour lies on the object; a person's clothes are less than half of the person.
            let there = mask(&sample.edited, i);
            let on_it = |found: &Found| {
                let inside = found.mask.iter().zip(&there).filter(|(f, t)| **f && **t);
                2 * inside.count() > found.mask.iter().filter(|m| **m).count()
            };
            of(seen, &new[i]).is_some_and(on_it) && !of(seen, &old[i]).is_some_and(on_it)
        }
        (_, None) => false,
    }
}

/// Whether the subject's colour, its colour and shape, and its place are those that were asked for.
#[must_use]
pub fn subject(sample: &Sample, picture: &[Rgb]) -> Vec<Score> {
    let seen = detect(picture);
    let wanted = &sample.subject.scene.objects[0];
    let found = of(&seen, wanted);
    let right = |right: fn(&Found, &Object) -> bool| share(found.is_some_and(|f| right(f, wanted)));
    vec![
        ("colour", right(|_, _| true)),
        ("colour+shape", right(|found, wanted| found.shape == wanted.shape)),
        ("position", right(|found, wanted| found.position() == wanted.position())),
    ]
}
