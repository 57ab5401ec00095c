//! Every decoder setting, format, batch and kernel against sequential decoding alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nightshift_engine::image::png::{self, Pixels};
use nightshift_engine::kernels::{Isa, force_isa};
use nightshift_engine::random::{ImageTokenizerSize, Options, Preset, write_with};
use nightshift_engine::{
    Decoding, Engine, EngineError, Event, GuidanceSchedule, KvCache, LoadOptions, Model, Picture,
    Request, RgbImage, Sampler, Weights, Window, generate,
};

use crate::golden;

const TEMPERATURES: [f32; 3] = [0.0, 0.7, 1.0];
const WINDOWS: [usize; 4] = [1, 4, 16, 64];
const SLOTS: [usize; 3] = [1, 3, 8];

/// Long forms take larger pictures, every instruction set and more threads.
fn full() -> bool {
    std::env::var_os("NIGHTSHIFT_TEST_FULL").is_some()
}

/// A random model whose laws have about one nat of entropy, which a test beside the writer of random models shows.
fn sharp(dir: &Path) -> PathBuf {
    let options = Options {
        preset: Preset::Tiny,
        seed: 3,
        sharp: true,
        image_tokenizer: ImageTokenizerSize::Small,
    };
    let dir = dir.join("sharp");
    write_with(&dir, &options).unwrap();
    dir
}

fn request(temperature: f32, decoding: Decoding, seed: u64) -> Request {
    let (width, height) = if full() { (64, 64) } else { (32, 64) };
    Request {
        prompt: format!("a caption of its own, number {seed}"),
        width,
        height,
        given: None,
        sampler: Sampler {
            cfg: 4.0,
            top_k: 4096,
            temperature,
            guidance: GuidanceSchedule::Constant,
            decoding,
        },
        seed,
    }
}

/// What the requests come to in an engine of so many places.
fn together(model: &Arc<Model>, slots: usize, requests: &[Request]) -> Vec<Picture> {
    let mut engine = Engine::new(Arc::clone(model), slots);
    let mut waiting = requests.iter().cloned().enumerate().peekable();
    let mut done: Vec<Option<Picture>> = vec![None; requests.len()];
    while done.iter().any(Option::is_none) {
        while engine.free_slots() > 0
            && let Some((id, request)) = waiting.next()
        {
            engine.admit(id as u64, request).unwrap();
        }
        for event in engine.step() {
            match event {
                Event::Finished { id, picture } => done[id as usize] = Some(*picture),
                Event::Failed { id, error } => panic!("request {id}: {error}"),
                Event::Progress { .. } => {}
            }
        }
    }
    done.into_iter().flatten().collect()
}

/// Requests of every temperature and window, and the ids that sequential decoding gives for each alone.
fn cases(model: &Arc<Model>) -> (Vec<Request>, Vec<Vec<u32>>) {
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for (seed, temperature) in TEMPERATURES.into_iter().enumerate() {
        let sequential = request(temperature, Decoding::Sequential, seed as u64);
        let ids = generate(model, sequential).unwrap().generated;
        for window in WINDOWS {
            let window = Window::Fixed(window);
            requests.push(request(temperature, Decoding::Jacobi { window }, seed as u64));
            expected.push(ids.clone());
        }
    }
    (requests, expected)
}

fn check(dir: &Path, weights: Weights, kv_cache: KvCache) {
    let load = |threads| {
        let options = LoadOptions { weights, kv_cache, threads, codes_only: true };
        Model::load(dir, &options).unwrap()
    };
    let model = load(2);
    let (requests, expected) = cases(&model);
    let compare_every = |nth: usize, model: &Arc<Model>, slots: usize, how: &str| {
        let requests: Vec<Request> = requests.iter().step_by(nth).cloned().collect();
        let expected = expected.iter().step_by(nth);
        let made = together(model, slots, &requests);
        for ((request, picture), ids) in requests.iter().zip(made).zip(expected) {
            let sampler = &request.sampler;
            assert_eq!(
                &picture.generated, ids,
                "{weights:?} {kv_cache:?} {slots} slots, {how}, {sampler:?}"
            );
        }
    };
    for slots in SLOTS {
        compare_every(1, &model, slots, "2 threads");
    }
    // The scalar kernels are many times slower: the short form asks them for one window of each temperature.
    let part = if full() { 1 } else { 5 };
    for isa in Isa::available() {
        force_isa(Some(isa)).unwrap();
        compare_every(part, &model, 3, isa.name());
    }
    force_isa(None).unwrap();
    for threads in [1, 3] {
        compare_every(part, &load(threads), 3, "other threads");
    }
}

fn check_all(dir: &Path, weights: Weights) {
    for kv_cache in [KvCache::F32, KvCache::Bf16, KvCache::Int8] {
        check(dir, weights, kv_cache);
    }
}

#[test]
fn jacobi_is_sequential_on_the_golden_model_in_f32() {
    check_all(&golden().join("tiny"), Weights::F32);
}

#[test]
fn jacobi_is_sequential_on_the_golden_model_in_4_bits() {
    check_all(&golden().join("tiny"), Weights::Int4);
}

#[test]
fn jacobi_is_sequential_on_a_sharp_model_in_f32() {
    let dir = tempfile::tempdir().unwrap();
    check_all(&sharp(dir.path()), Weights::F32);
}

#[test]
fn jacobi_is_sequential_on_a_sharp_model_in_4_bits() {
    let dir = tempfile::tempdir().unwrap();
    check_all(&sharp(dir.path()), Weights::Int4);
}

#[test]
fn a_sharp_model_accepts_some_guesses_and_rejects_some() {
    let dir = tempfile::tempdir().unwrap();
    let options = LoadOptions { codes_only: true, threads: 2, ..LoadOptions::default() };
    let model = Model::load(&sharp(dir.path()), &options).unwrap();
    let window = Window::Fixed(16);
    let made = generate(&model, request(1.0, Decoding::Jacobi { window }, 5)).unwrap();
    let cells = made.codes.len() as u32;
    assert!(
        made.steps < cells && made.steps > cells / 16,
        "{} steps for {cells} codes",
        made.steps
    );
}

#[test]
fn a_picture_has_the_same_bytes_alone_and_in_any_mix() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sharp(dir.path());
    let load = |threads| {
        let options = LoadOptions {
            weights: Weights::Int4,
            kv_cache: KvCache::Int8,
            threads,
            codes_only: false,
        };
        Model::load(&folder, &options).unwrap()
    };
    let png = |picture: &Picture| {
        let image = picture.image.as_ref().expect("a picture was asked for");
        png::write(Pixels::Rgb8(image.as_raw()), image.width(), image.height(), &[])
    };
    let window = Window::Fixed(16);
    let decodings =
        [Decoding::Sequential, Decoding::Jacobi { window }, Decoding::Coupled { window }];
    let requests: Vec<Request> =
        (0..6).map(|seed| request(1.0, decodings[seed as usize % 3], seed)).collect();
    let model = load(2);
    let alone: Vec<Vec<u8>> =
        requests.iter().map(|request| png(&generate(&model, request.clone()).unwrap())).collect();
    assert_ne!(alone[0], alone[3], "another seed gives another picture");
    for (slots, threads) in [(1, 1), (3, 2), (8, 3)] {
        let made = together(&load(threads), slots, &requests);
        let made: Vec<Vec<u8>> = made.iter().map(png).collect();
        assert_eq!(made, alone, "{slots} slots, {threads} threads");
    }
}

#[test]
fn a_slot_is_free_while_its_picture_is_decoded() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load(&sharp(dir.path()), &LoadOptions::default()).unwrap();
    let mut engine = Engine::new(Arc::clone(&model), 1);
    engine.admit(1, request(1.0, Decoding::Sequential, 1)).unwrap();
    let complete = |event: &Event| match event {
        Event::Progress { done, total, .. } => done == total,
        Event::Finished { .. } => panic!("its codes are told to be complete first"),
        Event::Failed { error, .. } => panic!("{error}"),
    };
    let last = loop {
        let events = engine.step();
        if complete(&events[0]) {
            break events;
        }
    };
    let finished = |event: &Event| matches!(event, Event::Finished { id: 1, .. });
    if !last.iter().any(finished) {
        // One picture is waiting and there is one slot: another request must wait until it is decoded.
        assert_eq!(engine.free_slots(), 0);
        let events = engine.step();
        assert!(events.iter().any(finished), "{events:?}");
    }
    assert_eq!(engine.free_slots(), 1);
    assert!(engine.step().is_empty(), "nothing runs any more");
}

#[test]
fn a_given_panel_is_read_beside_the_other_slots() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::load(&sharp(dir.path()), &LoadOptions::default()).unwrap();
    let (width, height) = (32, 32);
    let given = |value: u8| {
        let panel = RgbImage {
            width,
            height,
            data: (0..width * height * 3).map(|i| (i as u8).wrapping_mul(value)).collect(),
        };
        Request {
            width,
            height: 2 * height,
            given: Some(panel),
            ..request(1.0, Decoding::Sequential, 5)
        }
    };
    let requests = [request(1.0, Decoding::Sequential, 1), given(3), given(7), given(3)];
    let alone = requests.clone().map(|request| generate(&model, request).unwrap());
    assert_eq!(alone[1], alone[3]);
    assert_ne!(alone[1].codes, alone[2].codes, "another panel was read");
    assert_eq!(together(&model, 3, &requests), alone);

    // A place is taken while a panel is read, its request can be dropped, and the panel that comes for it is nobody's.
    let mut engine = Engine::new(Arc::clone(&model), 1);
    engine.admit(1, given(3)).unwrap();
    assert_eq!(engine.free_slots(), 0);
    assert_eq!(engine.admit(1, given(3)), Err(EngineError::DuplicateId(1)));
    assert_eq!(engine.admit(2, given(3)), Err(EngineError::NoFreeSlot));
    assert!(engine.cancel(1) && !engine.cancel(1));
    assert!(engine.step().is_empty(), "nothing runs any more");
    engine.admit(2, given(7)).unwrap();
    let finished =
        std::iter::repeat_with(|| engine.step()).flatten().find_map(|event| match event {
            Event::Finished { id: 2, picture } => Some(*picture),
            Event::Progress { id: 2, .. } => None,
            other => panic!("{other:?}"),
        });
    assert_eq!(finished.as_ref(), Some(&alone[2]));
}

#[test]
fn a_model_folder_publishes_the_window_of_coupled_decoding() {
    let dir = tempfile::tempdir().unwrap();
    let folder = sharp(dir.path());
    let file = folder.join("generation_config.json");
    let options = LoadOptions { codes_only: true, ..LoadOptions::default() };
    let coupled = |model: &Arc<Model>, window| {
        let request = request(1.0, Decoding::Coupled { window }, 4);
        let made = generate(model, request).unwrap();
        (made.generated, made.steps)
    };
    let plain = Model::load(&folder, &options).unwrap();
    let sixteen = coupled(&plain, Window::Fixed(16));
    assert_eq!(coupled(&plain, Window::Auto), sixteen);

    std::fs::write(&file, r#"{"bos_token_id": 1, "coupled_window": 3}"#).unwrap();
    let published = Model::load(&folder, &options).unwrap();
    let three = coupled(&published, Window::Fixed(3));
    assert_ne!(three, sixteen);
    assert_eq!(coupled(&published, Window::Auto), three);
    assert_ne!(published.fingerprint(), plain.fingerprint());

    std::fs::write(&file, r#"{"coupled_window": 0}"#).unwrap();
    let error = Model::load(&folder, &options).unwrap_err().to_string();
    assert!(
        error.contains("generation_config.json") && error.contains("`coupled_window` is 0"),
        "{error}"
    );
}

#[test]
fn weights_are_read_once_a_step_whatever_the_slots_and_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let options =
        LoadOptions { weights: Weights::Int4, codes_only: true, ..LoadOptions::default() };
    let model = Model::load(&sharp(dir.path()), &options).unwrap();
    let bytes_a_step = |slots: u64, decoding: Decoding| {
        let mut engine = Engine::new(Arc::clone(&model), slots as usize);
        for id in 0..slots {
            engine.admit(id, request(1.0, decoding, id)).unwrap();
        }
        while engine.counters().turns == 0 {
            engine.step();
        }
        let before = engine.counters();
        engine.step();
        let after = engine.counters();
        assert_eq!(after.forwards - before.forwards, 1);
        (after.weight_bytes - before.weight_bytes, after.rows - before.rows)
    };
    let (one, few) = bytes_a_step(1, Decoding::Sequential);
    let window = Window::Fixed(16);
    let (many, rows) = bytes_a_step(8, Decoding::Jacobi { window });
    assert!(rows > 20 * few, "{rows} rows against {few}");
    assert_eq!(one, many);
}
