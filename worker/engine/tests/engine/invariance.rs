//! The same ids alone, in any batch, with any number of threads and any window.

use std::collections::BTreeMap;
use std::sync::Arc;

use nightshift_engine::{
    Decoding, Engine, Event, GuidanceSchedule, KvCache, LoadOptions, Model, Request, Sampler,
    Weights, Window, generate,
};

use crate::golden;

fn model(threads: usize) -> Arc<Model> {
    let options = LoadOptions { codes_only: true, threads, ..LoadOptions::default() };
    Model::load(&golden().join("tiny"), &options).unwrap()
}

fn jacobi(window: usize) -> Decoding {
    Decoding::Jacobi { window: Window::Fixed(window) }
}

/// Requests that differ in everything: size, guidance, prompt length, temperature, top-k, seed.
fn requests() -> Vec<Request> {
    let request = |prompt: &str, (width, height), cfg, temperature, top_k, seed| Request {
        prompt: prompt.to_owned(),
        width,
        height,
        given: None,
        sampler: Sampler {
            cfg,
            top_k,
            temperature,
            guidance: GuidanceSchedule::Constant,
            decoding: Decoding::Sequential,
        },
        seed,
    };
    let long = "a very long caption ".repeat(12);
    vec![
        request("a red cube", (64, 64), 4.0, 1.0, 4096, 7),
        request(&long, (32, 64), 3.0, 0.7, 20, 8),
        request("two cats", (96, 32), 1.0, 1.0, 64, u64::MAX),
        request("", (32, 32), 6.0, 0.0, 5, 1),
        request("a red cube", (64, 64), 4.0, 1.0, 4096, 9),
    ]
}

fn with(request: &Request, decoding: Decoding) -> Request {
    let sampler = Sampler { decoding, ..request.sampler.clone() };
    Request { sampler, ..request.clone() }
}

/// Runs requests in an engine of `slots` places, refilling places as they come free.
fn batch(model: &Arc<Model>, slots: usize, requests: &[Request]) -> Vec<Vec<u32>> {
    let mut engine = Engine::new(Arc::clone(model), slots);
    let mut waiting = requests.iter().enumerate();
    let mut done = BTreeMap::new();
    while done.len() < requests.len() {
        while engine.free_slots() > 0 {
            let Some((id, request)) = waiting.next() else {
                break;
            };
            engine.admit(id as u64, request.clone()).unwrap();
        }
        for event in engine.step() {
            match event {
                Event::Finished { id, picture } => drop(done.insert(id, picture.generated)),
                Event::Failed { id, error } => panic!("{id}: {error}"),
                Event::Progress { .. } => {}
            }
        }
    }
    done.into_values().collect()
}

#[test]
fn a_result_depends_on_neither_batch_nor_threads() {
    let one = model(1);
    let alone: Vec<Vec<u32>> = requests()
        .iter()
        .map(|request| generate(&one, request.clone()).unwrap().generated)
        .collect();
    assert_ne!(alone[0], alone[4], "another seed gives another picture");
    for threads in [1, 2, 3] {
        let model = model(threads);
        for slots in [1, 3, 8] {
            assert_eq!(
                batch(&model, slots, &requests()),
                alone,
                "{slots} slots, {threads} threads"
            );
        }
    }
}

#[test]
fn every_window_gives_the_sequential_tokens() {
    let model = model(2);
    for request in requests() {
        let sequential = generate(&model, request.clone()).unwrap();
        for window in [1, 4, 16, 64] {
            let made = generate(&model, with(&request, jacobi(window))).unwrap();
            assert_eq!(
                made.generated, sequential.generated,
                "window {window} of {:?}",
                request.prompt
            );
            assert!(made.steps <= sequential.steps);
        }
    }
}

#[test]
fn windows_of_different_sizes_share_a_batch() {
    let model = model(2);
    let alone: Vec<Vec<u32>> = requests()
        .iter()
        .map(|request| generate(&model, request.clone()).unwrap().generated)
        .collect();
    let windows = [1, 4, 16, 64, 3];
    let mixed: Vec<Request> = requests()
        .iter()
        .zip(windows)
        .map(|(request, window)| with(request, jacobi(window)))
        .collect();
    assert_eq!(batch(&model, 3, &mixed), alone);
}

#[test]
fn a_cancelled_request_leaves_the_others_alone_and_its_slot_is_clean() {
    let model = model(1);
    let requests = requests();
    let alone = generate(&model, requests[1].clone()).unwrap().generated;
    let mut engine = Engine::new(Arc::clone(&model), 2);
    engine.admit(0, requests[0].clone()).unwrap();
    engine.admit(1, requests[2].clone()).unwrap();
    assert!(engine.admit(2, requests[1].clone()).is_err(), "no slot is free");
    for _ in 0..5 {
        engine.step();
    }
    engine.cancel(0);
    assert_eq!(engine.free_slots(), 1);
    engine.admit(2, requests[1].clone()).unwrap();
    let made = loop {
        let finished = engine.step().into_iter().find_map(|event| match event {
            Event::Finished { id: 2, picture } => Some(picture.generated),
            _ => None,
        });
        if let Some(made) = finished {
            break made;
        }
    };
    assert_eq!(made, alone);
}

#[test]
fn every_format_of_weights_and_cache_keeps_the_promise() {
    let mut seen = Vec::new();
    for weights in [Weights::F32, Weights::Bf16, Weights::Int4] {
        for kv_cache in [KvCache::F32, KvCache::Bf16, KvCache::Int8] {
            let options = LoadOptions { weights, kv_cache, threads: 2, codes_only: true };
            let model = Model::load(&golden().join("tiny"), &options).unwrap();
            let alone: Vec<Vec<u32>> = requests()
                .iter()
                .map(|request| generate(&model, request.clone()).unwrap().generated)
                .collect();
            let windows = [4, 16, 1, 64, 3];
            let mixed: Vec<Request> = requests()
                .iter()
                .zip(windows)
                .map(|(request, window)| with(request, jacobi(window)))
                .collect();
            assert_eq!(batch(&model, 3, &mixed), alone, "{weights:?} {kv_cache:?}");
            assert!(!seen.contains(&model.fingerprint().to_owned()), "{weights:?} {kv_cache:?}");
            seen.push(model.fingerprint().to_owned());
        }
    }
}

#[test]
fn coupled_decoding_is_reproducible_in_any_batch_and_takes_the_largest_scores_at_temperature_0() {
    let model = model(2);
    let coupled = |request: &Request| with(request, Decoding::Coupled { window: Window::Fixed(8) });
    let requests: Vec<Request> = requests().iter().map(coupled).collect();
    let alone: Vec<_> =
        requests.iter().map(|request| generate(&model, request.clone()).unwrap()).collect();
    let ids: Vec<Vec<u32>> = alone.iter().map(|made| made.generated.clone()).collect();
    assert_eq!(batch(&model, 3, &requests), ids);
    // Request 3 has temperature 0: no draw is left to differ.
    let sequential = generate(&model, with(&requests[3], Decoding::Sequential)).unwrap();
    assert_eq!(ids[3], sequential.generated);
    assert!(alone[3].steps < sequential.steps);
}

#[test]
fn equal_prefixes_are_computed_once_and_change_nothing() {
    let model = model(1);
    let long = &requests()[1];
    let seeds: Vec<Request> = (0..4).map(|seed| Request { seed, ..long.clone() }).collect();
    let run = |slots: usize, requests: &[Request]| {
        let mut engine = Engine::new(Arc::clone(&model), slots);
        let mut waiting = requests.iter().enumerate();
        let mut done = BTreeMap::new();
        while done.len() < requests.len() {
            while engine.free_slots() > 0 {
                let Some((id, request)) = waiting.next() else {
                    break;
                };
                engine.admit(id as u64, request.clone()).unwrap();
            }
            for event in engine.step() {
                if let Event::Finished { id, picture } = event {
                    done.insert(id, picture.generated);
                }
            }
        }
        (done.into_values().collect::<Vec<_>>(), engine.counters())
    };
    let alone: Vec<Vec<u32>> =
        seeds.iter().map(|request| generate(&model, request.clone()).unwrap().generated).collect();
    let (_, one) = run(1, &seeds[..1]);
    let prompt = model.prompt_ids(&long.prompt).unwrap().len() as u64;
    for slots in [1, 2, 4] {
        let (made, four) = run(slots, &seeds);
        assert_eq!(made, alone, "{slots} slots");
        // The prompt, and the header but its last token in both branches, three times over.
        assert_eq!(four.rows, 4 * one.rows - 3 * (prompt + 2 + 2), "{slots} slots");
    }
}

#[test]
fn the_automatic_window_changes_no_token() {
    let model = model(2);
    let auto = Decoding::Jacobi { window: Window::Auto };
    let alone: Vec<Vec<u32>> = requests()
        .iter()
        .map(|request| generate(&model, request.clone()).unwrap().generated)
        .collect();
    let requests: Vec<Request> = requests().iter().map(|request| with(request, auto)).collect();
    assert_eq!(batch(&model, 2, &requests), alone);
}

#[test]
fn a_request_beyond_the_budget_is_refused_with_the_numbers() {
    let model = model(1);
    let requests = requests();
    let mut engine = Engine::with_cache_bytes(Arc::clone(&model), 2, 2_000_000);
    let refused = engine.admit(1, requests[1].clone()).unwrap_err();
    assert_eq!(refused.code(), "out_of_budget");
    assert!(refused.to_string().contains("1000000"), "{refused}");
    engine.admit(3, requests[3].clone()).unwrap();
}

#[test]
fn every_instruction_set_gives_the_same_tokens() {
    use nightshift_engine::kernels::{Isa, force_isa};
    for weights in [Weights::F32, Weights::Int4] {
        let options = LoadOptions { weights, codes_only: true, ..LoadOptions::default() };
        let model = Model::load(&golden().join("tiny"), &options).unwrap();
        let mut made = Isa::available().into_iter().map(|isa| {
            force_isa(Some(isa)).unwrap();
            batch(&model, 2, &requests()[..3])
        });
        let scalar = made.next().unwrap();
        assert!(made.all(|ids| ids == scalar), "{weights:?}");
    }
}
