//! A generator for tests: every picture is a function of its request, at once or when the test lets it go, and counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nightshift_engine::{EngineError, Event, Picture, Request, RgbImage};

use super::{Generator, Offer};

/// How long a gated step waits before it looks again for cancellations.
const STEP: Duration = Duration::from_millis(5);

/// Makes flat pictures whose colour depends on seed and prompt. A prompt that contains `panic!` panics, one that contains
/// `refuse!` is refused, and one that contains `abort!` ends the process at once.
#[derive(Debug)]
pub struct Scripted {
    model: String,
    slots: usize,
    running: BTreeMap<u64, Request>,
    script: Script,
}

/// The test's end: opens and closes the gate, and counts.
#[derive(Debug, Clone)]
pub struct Script(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug)]
struct State {
    /// Pictures that may still be finished; `None`: any number.
    allowed: Option<u64>,
    admitted: u64,
    finished: u64,
    cancelled: u64,
    /// By prompt: the most requests that had a slot at the same time.
    beside: BTreeMap<String, usize>,
}

impl Scripted {
    /// A generator of `slots` places that offers `model` (`"name/weights/kv_cache"`), its gate open.
    #[must_use]
    pub fn new(model: &str, slots: usize) -> (Self, Script) {
        let state = State {
            allowed: None,
            admitted: 0,
            finished: 0,
            cancelled: 0,
            beside: BTreeMap::new(),
        };
        let script = Script(Arc::new((Mutex::new(state), Condvar::new())));
        let generator = Self {
            model: model.to_owned(),
            slots,
            running: BTreeMap::new(),
            script: script.clone(),
        };
        (generator, script)
    }
}

impl Script {
    /// Lets exactly `pictures` more pictures be finished, and no more until the next call.
    pub fn allow(&self, pictures: u64) {
        self.state().allowed = Some(pictures);
        self.0.1.notify_all();
    }

    /// Lets every picture be finished at once.
    pub fn open(&self) {
        self.state().allowed = None;
        self.0.1.notify_all();
    }

    /// Requests that took a slot so far.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.state().admitted
    }

    /// Pictures finished so far.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.state().finished
    }

    /// Requests taken out of their slots before they were finished.
    #[must_use]
    pub fn cancelled(&self) -> u64 {
        self.state().cancelled
    }

    /// The most other requests that had a slot while one with this prompt had one.
    #[must_use]
    pub fn beside(&self, prompt: &str) -> usize {
        let state = self.state();
        let all = state.beside.iter();
        let its = all.filter(|(seen, _)| seen.contains(prompt));
        its.map(|(_, most)| *most).max().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generator for Scripted {
    fn models(&self) -> BTreeMap<String, Offer> {
        let offer = Offer { fingerprint: format!("{:064x}", 0x5c21_97ed), coupled_window: 24 };
        BTreeMap::from([(self.model.clone(), offer)])
    }

    fn slots(&self) -> usize {
        self.slots
    }

    fn admit(&mut self, ticket: u64, model: &str, request: Request) -> Result<(), EngineError> {
        assert_eq!(model, self.model, "only announced models are asked for");
        if self.running.len() >= self.slots {
            return Err(EngineError::NoFreeSlot);
        }
        if request.prompt.contains("refuse!") {
            return Err(EngineError::BadRequest("the script refuses this prompt".to_owned()));
        }
        if request.prompt.contains("abort!") {
            std::process::abort();
        }
        self.running.insert(ticket, request);
        let mut state = self.script.state();
        state.admitted += 1;
        for request in self.running.values() {
            let most = state.beside.entry(request.prompt.clone()).or_default();
            *most = (*most).max(self.running.len() - 1);
        }
        Ok(())
    }

    fn step(&mut self) -> Vec<Event> {
        let Some((&id, request)) = self.running.first_key_value() else {
            return Vec::new();
        };
        assert!(!request.prompt.contains("panic!"), "the script panics on this prompt");
        let mut state = self.script.state();
        if state.allowed == Some(0) {
            let waited = self.script.0.1.wait_timeout(state, STEP);
            drop(waited);
            return Vec::new();
        }
        state.allowed = state.allowed.map(|left| left - 1);
        state.finished += 1;
        drop(state);
        let picture = Box::new(draw(request));
        self.running.remove(&id);
        vec![Event::Finished { id, picture }]
    }

    fn cancel(&mut self, ticket: u64) {
        if self.running.remove(&ticket).is_some() {
            self.script.state().cancelled += 1;
        }
    }

    fn reset(&mut self) {
        self.running.clear();
    }
}

/// A flat picture below the given panel, if there is one.
fn draw(request: &Request) -> Picture {
    let mixed = request
        .prompt
        .bytes()
        .fold(request.seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let [r, g, b, ..] = mixed.to_le_bytes();
    let flat = |height: u32| RgbImage {
        width: request.width,
        height,
        data: [r, g, b].repeat(request.width as usize * height as usize),
    };
    let image = match &request.given {
        Some(given) => RgbImage::stack(given, &flat(request.height - given.height)),
        None => flat(request.height),
    };
    let tokens = (request.width / 8) * (request.height / 8);
    Picture { image: Some(image), codes: Vec::new(), generated: Vec::new(), tokens, steps: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_holds_pictures_back() {
        let (mut generator, script) = Scripted::new("m/f32/f32", 2);
        script.allow(1);
        let request = |seed| Request {
            prompt: "p".to_owned(),
            width: 32,
            height: 32,
            given: None,
            sampler: nightshift_engine::Sampler::default(),
            seed,
        };
        generator.admit(1, "m/f32/f32", request(1)).unwrap();
        generator.admit(2, "m/f32/f32", request(2)).unwrap();
        assert_eq!(generator.admit(3, "m/f32/f32", request(3)), Err(EngineError::NoFreeSlot));
        assert_eq!(generator.step().len(), 1);
        assert_eq!(generator.step().len(), 0);
        script.open();
        assert_eq!(generator.step().len(), 1);
        assert_eq!((script.admitted(), script.finished()), (2, 2));
    }
}
