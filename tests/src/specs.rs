//! Small specs for tests: one sentence each, everything else as little as possible.

/// Text to image: `n` prompts, one 32 x 32 picture each (a few milliseconds of work).
#[must_use]
pub fn prompts(name: &str, n: usize, dest: &str) -> String {
    sized_prompts(name, n, "32x32", dest)
}

/// Text to image: `n` prompts of the given size.
#[must_use]
pub fn sized_prompts(name: &str, n: usize, size: &str, dest: &str) -> String {
    use std::fmt::Write as _;
    let mut rows = String::new();
    for i in 0..n {
        writeln!(rows, "    - {{id: p{i}, prompt: \"a picture of number {i}\"}}")
            .expect("a string takes text");
    }
    format!(
        "apiVersion: nightshift/v1\nkind: text_to_image\nmetadata: {{name: {name}}}\ninput:\n  inline:\n{rows}\
         generate: {{size: {size}, seeds: [1]}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         output: {{dest: \"{dest}\"}}\n"
    )
}

/// Dense prediction of depth over everything below a prefix.
#[must_use]
pub fn depth(name: &str, prefix: &str, dest: &str) -> String {
    format!(
        "apiVersion: nightshift/v1\nkind: dense_prediction\nmetadata: {{name: {name}}}\n\
         input: {{prefix: \"{prefix}\", on_bad_input: fail_item}}\n\
         predict: {{targets: [depth], panel: 64x64, fit: pad, seeds: [0]}}\n\
         sampler: {{cfg: 1.0, temperature: 0.0}}\nmodel: {{name: tiny, weights: f32, kv_cache: f32}}\n\
         output: {{dest: \"{dest}\"}}\n"
    )
}
