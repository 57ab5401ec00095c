//! What must hold for every scene, on many seeds.

use sha2::{Digest, Sha256};

use super::edit::Op;
use super::render::{self, FAR, FIRST_OBJECT, NEAR, SKY};
use super::sample::{HELD_OUT, PANELS, Sample, bounds, mask};
use super::scene::{Kind, Scene, Shape, Size};

fn samples(count: u64) -> impl Iterator<Item = Sample> {
    (0..count / 2).chain(HELD_OUT..HELD_OUT + count.div_ceil(2)).map(Sample::new)
}

/// Everything of a few seeds, words and pixels.
#[test]
fn the_bytes_of_a_seed_are_pinned() {
    let digest = |seed: u64| {
        let sample = Sample::new(seed);
        let mut hash = Sha256::new();
        hash.update(sample.line().to_string());
        for name in PANELS {
            hash.update(sample.panel(name).as_raw());
        }
        for depth in &sample.drawn.depth {
            hash.update(depth.to_le_bytes());
        }
        let hex: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{seed}: {hex} {}", sample.caption.text)
    };
    let lines: Vec<String> = [0, 1, 2, 3, 4, HELD_OUT].map(digest).into();
    insta::assert_snapshot!(lines.join("\n"), @r"
    0: 60264561623dbbbf a yellow box on the left and a green cone on the right at dusk
    1: 1906295abb959112 an orange cylinder and a cyan cylinder by day
    2: 83d6960ec9a6bef3 three objects from left to right: an orange cone, a yellow box and a purple ball by day
    3: 8334a7c12dac23f6 a purple ball on the left at night
    4: 76682a66289ab56a a green cylinder and an orange cylinder, the orange cylinder is nearer, by day
    1000000000: bdb7eed91bcbc680 a person in purple with arms out on the left at dusk
    ");
}

#[test]
fn depth_and_owners_agree() {
    for sample in samples(200) {
        let drawn = &sample.drawn;
        for (owner, (depth, normal)) in
            drawn.owner.iter().zip(drawn.depth.iter().zip(&drawn.normal))
        {
            assert!((NEAR..=FAR).contains(depth), "seed {}: {depth}", sample.seed);
            let length = normal.iter().map(|n| n * n).sum::<f32>();
            match *owner {
                SKY => assert_eq!((*depth, length), (FAR, 0.0)),
                _ => assert!((length - 1.0).abs() < 1e-2 && normal[2] > -0.5, "{normal:?}"),
            }
        }
        // Nothing is behind what hides it: taking an object away never brings anything nearer.
        for object in 0..sample.scene.objects.len() {
            let mut rest = sample.scene.clone();
            rest.objects.remove(object);
            let behind = render::draw(&rest);
            let hidden = mask(drawn, object);
            for ((hides, front), back) in hidden.iter().zip(&drawn.depth).zip(&behind.depth) {
                assert!(if *hides { front < back } else { front == back });
            }
        }
    }
}

/// The share of an object that others leave visible, and its pixels.
fn seen(scene: &Scene, object: usize) -> (f32, usize) {
    let alone = Scene { objects: vec![scene.objects[object]], ..scene.clone() };
    let count = |drawn: &render::Drawn, object| mask(drawn, object).iter().filter(|m| **m).count();
    let visible = count(&render::draw(scene), object);
    (visible as f32 / count(&render::draw(&alone), 0) as f32, visible)
}

#[test]
fn every_object_is_large_enough_and_seen() {
    for sample in samples(300) {
        for scene in [&sample.scene, &sample.edit.scene, &sample.subject.scene] {
            for object in 0..scene.objects.len() {
                let (share, pixels) = seen(scene, object);
                assert!(
                    share > 0.45 && pixels >= 70,
                    "seed {}: object {object} shows {share} of itself, {pixels} pixels",
                    sample.seed
                );
            }
        }
    }
}

#[test]
fn captions_tell_the_truth() {
    for sample in samples(400) {
        let (text, scene) = (&sample.caption.text, &sample.scene);
        let mut colours: Vec<_> = scene.objects.iter().map(|object| object.colour).collect();
        colours.sort_unstable();
        colours.dedup();
        assert_eq!(colours.len(), scene.objects.len(), "colours tell objects apart: {text}");
        for object in &scene.objects {
            assert!(text.contains(object.colour.word()), "{text}");
            assert!(text.contains(object.shape.word().trim_end_matches('x')), "{text}");
        }
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let mentions = sample.caption.mentions;
        assert_eq!(says(&["by day", "at dusk", "at night"]), mentions.time, "{text}");
        assert!(!mentions.time || text.ends_with(scene.time().phrase()), "{text}");
        assert_eq!(
            says(&["on the", "in the middle", "left to right"]),
            mentions.position,
            "{text}"
        );
        assert_eq!(says(&["large", "small"]), mentions.size, "{text}");
        assert_eq!(says(&["nearer", "in front of"]), mentions.depth, "{text}");
        if mentions.position && scene.kind != Kind::Three {
            let places: Vec<usize> =
                scene.objects.iter().filter_map(|o| text.find(o.position().phrase())).collect();
            assert!(places.len() == scene.objects.len() && places.is_sorted(), "{text}");
        }
        if scene.kind != Kind::Front {
            assert!(
                scene.objects.windows(2).all(|pair| pair[0].column + 10.0 < pair[1].column),
                "{text}"
            );
        }
        let sizes = scene.objects.iter().map(|object| (object.size, object.width));
        for (size, width) in sizes.filter(|_| mentions.size) {
            assert!(
                if size == Size::Small {
                    width <= 18.0
                } else {
                    size == Size::Medium || width >= 29.0
                },
                "{text}"
            );
        }
        assert!(text.is_ascii() && text.len() <= 120, "{text}");
    }
}

#[test]
fn edits_change_what_they_say_and_nothing_else() {
    for sample in samples(300) {
        let (old, new) = (&sample.drawn, &sample.edited);
        let about = match (sample.edit.op, sample.edit.object) {
            (Op::Add, Some(object)) => mask(new, object),
            (_, Some(object)) => mask(old, object),
            (_, None) => vec![true; old.owner.len()],
        };
        let changed: Vec<bool> =
            old.picture.iter().zip(&new.picture).map(|(a, b)| a != b).collect();
        let inside = changed.iter().zip(&about).filter(|(c, a)| **c && **a).count();
        let area = about.iter().filter(|a| **a).count();
        let text = format!("seed {}: {}", sample.seed, sample.edit.instruction);
        assert!(inside * 10 >= area * 7, "{text}: {inside} of {area}");
        let outside = changed.iter().zip(&about).filter(|(c, a)| **c && !**a).count();
        match sample.edit.op {
            Op::Recolour => assert!(outside < 120, "{text}: {outside}"),
            Op::Remove | Op::Add => assert!(outside < 320, "its shadow too: {text}: {outside}"),
            Op::Time => {}
        }
    }
}

#[test]
fn a_subject_keeps_shape_and_colour_but_not_its_place() {
    let mut moved = 0;
    for sample in samples(200) {
        let (alone, there) = (&sample.subject.alone.objects[0], &sample.subject.scene.objects[0]);
        assert_eq!((alone.shape, alone.colour), (there.shape, there.colour));
        assert_eq!(alone.shape, sample.scene.objects[sample.subject.object].shape);
        assert!(!sample.subject.caption.starts_with(&format!("the {}", alone.colour.word())));
        moved += usize::from(there.position() != super::scene::Position::Middle);
    }
    assert!(moved > 100, "{moved}");
}

#[test]
fn only_people_have_keypoints_and_these_are_on_them() {
    for sample in samples(300) {
        let person = sample.scene.objects.iter().position(|o| o.shape == Shape::Person);
        assert_eq!(sample.joints.is_some(), person.is_some());
        let (Some(joints), Some(person)) = (sample.joints, person) else {
            continue;
        };
        let around = bounds(&mask(&sample.drawn, person)).expect("a person is seen");
        for end in super::maps::bones(&joints).concat() {
            let at = end[1] as usize * super::scene::SIDE + end[0] as usize;
            assert_eq!(
                sample.drawn.owner[at],
                FIRST_OBJECT + person as u8,
                "seed {}: {end:?} {around:?}",
                sample.seed
            );
        }
    }
}
