//! Random checkpoints are functions of their options, load as released ones do, and have laws as sharp as asked for.

use nightshift_engine::prompt::{PromptTask, text};
use nightshift_engine::random::{ImageTokenizerSize, Options, Preset, write, write_with};
use nightshift_engine::{LoadOptions, Model, Request, RgbImage, Sampler, generate, surprise};

fn request(size: u32, given: Option<RgbImage>) -> Request {
    Request {
        prompt: text(&PromptTask::TextToImage, size, size, "a lighthouse"),
        width: size,
        height: size,
        given,
        sampler: Sampler::default(),
        seed: 5,
    }
}

#[test]
fn a_tiny_checkpoint_loads_and_makes_the_same_picture_twice() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(a.path(), Preset::Tiny, 3).unwrap();
    write(b.path(), Preset::Tiny, 3).unwrap();
    let one = Model::load(a.path(), &LoadOptions::default()).unwrap();
    let other =
        Model::load(b.path(), &LoadOptions { threads: 2, ..LoadOptions::default() }).unwrap();
    assert_eq!(one.fingerprint(), other.fingerprint());
    let picture = generate(&one, request(64, None)).unwrap();
    let again = generate(&other, request(64, None)).unwrap();
    assert_eq!((&picture.image, &picture.generated), (&again.image, &again.generated));
    let image = picture.image.unwrap();
    assert_eq!((image.width, image.height), (64, 64));
    assert!(image.data.iter().any(|v| *v != image.data[0]), "a picture is not one colour");
    write(b.path(), Preset::Tiny, 4).unwrap();
    let third = Model::load(b.path(), &LoadOptions::default()).unwrap();
    assert_ne!(one.fingerprint(), third.fingerprint());
}

#[test]
fn a_given_panel_stays_on_top_and_a_wrong_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), Preset::Tiny, 3).unwrap();
    let model = Model::load(dir.path(), &LoadOptions::default()).unwrap();
    let mut panel = RgbImage::new(64, 32);
    panel.data.iter_mut().enumerate().for_each(|(i, v)| *v = (i * 7 % 251) as u8);
    let codes = model.encode_panel(&panel).unwrap();
    let picture = generate(&model, request(64, Some(panel))).unwrap();
    assert_eq!(picture.codes[..codes.len()], codes);
    assert_eq!(picture.tokens, 4 * 9 + 1);
    let wrong = generate(&model, request(64, Some(RgbImage::new(64, 64)))).unwrap_err();
    assert_eq!(wrong.code(), "bad_request");
}

/// Mean entropy in nats of the laws along a generated picture: guidance 4, all codes, temperature 1.
fn mean_entropy(sharp: bool) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let image_tokenizer = ImageTokenizerSize::Small;
    let options = Options { preset: Preset::Tiny, seed: 3, sharp, image_tokenizer };
    write_with(dir.path(), &options).unwrap();
    let codes_only = LoadOptions { codes_only: true, ..LoadOptions::default() };
    let model = Model::load(dir.path(), &codes_only).unwrap();
    let codes = generate(&model, request(64, None)).unwrap().codes;
    surprise(&model, &request(64, None), &codes).unwrap().expected / codes.len() as f64
}

#[test]
fn a_sharp_model_has_about_a_nat_of_entropy() {
    let (sharp, flat) = (mean_entropy(true), mean_entropy(false));
    assert!((0.5..1.5).contains(&sharp) && flat > sharp, "sharp {sharp}, flat {flat}");
}
