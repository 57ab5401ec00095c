//! A folder written in 4 bits.

use std::path::Path;

use nightshift_engine::quantise::quantise;
use nightshift_engine::random::{Preset, write};
use nightshift_engine::{LoadOptions, Model, Request, Sampler, Weights, generate};

#[test]
fn a_quantised_folder_gives_the_pictures_of_quantising_on_load() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(from.path(), Preset::Tiny, 1).unwrap();
    quantise(from.path(), to.path()).unwrap();
    let options = LoadOptions { weights: Weights::Int4, ..LoadOptions::default() };
    let request = Request {
        prompt: "a mill".to_owned(),
        width: 32,
        height: 32,
        given: None,
        sampler: Sampler::default(),
        seed: 2,
    };
    let pictures = [&from, &to].map(|dir| {
        let model = Model::load(dir.path(), &options).unwrap();
        generate(&model, request.clone()).unwrap()
    });
    assert_eq!(pictures[0].image, pictures[1].image);
    let size = |dir: &Path| std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(size(to.path()) < 600_000, "{}", size(to.path()));
    let refused = Model::load(to.path(), &LoadOptions::default()).unwrap_err().to_string();
    assert!(refused.contains("4 bits") && refused.contains("q_proj"), "{refused}");
}
