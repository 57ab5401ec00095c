//! One place of the engine: two static caches and the request that uses them.

use super::batch::{Cached, Turn};
use crate::decode::coupled::{Coupled, Draws, invert, keeps};
use crate::decode::jacobi::Jacobi;
use crate::decode::{Choice, Plan, Stream, sequential};
use crate::error::EngineError;
use crate::image::RgbImage;
use crate::model::Model;
use crate::request::{Decoding, Request, Sampler, Window};
use crate::sample::grid::Grid;
use crate::sample::logits::guidance_table;
use crate::sample::rng;
use crate::transformer::{BranchCache, common};

/// A place for one request. Its caches stay allocated between requests.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) conditional: Option<BranchCache>,
    pub(crate) unconditional: Option<BranchCache>,
    pub(crate) running: Option<Running>,
}

/// A request in a slot.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: u64,
    pub(crate) stream: Stream,
    pub(crate) sampler: Sampler,
    pub(crate) seed: u64,
    /// Scale for each index of the image part.
    pub(crate) guidance: Vec<f32>,
    pub(crate) steps: u32,
    pub(crate) guided: bool,
    decoder: Decoder,
}

#[derive(Debug)]
enum Decoder {
    Sequential,
    /// Without a window, it is chosen at each step.
    Jacobi {
        state: Jacobi,
        window: Option<usize>,
    },
    Coupled {
        state: Coupled<f32>,
        round: u32,
    },
}

/// The draws of one round of coupled decoding: draw 1 + 2 round decides, draw 2 + 2 round replaces and starts cells.
struct RoundDraws {
    seed: u64,
    round: u32,
}

impl Draws for RoundDraws {
    fn keep(&mut self, cell: usize, q: f64, p: f64) -> bool {
        keeps(rng::uniform(self.seed, cell as u32, 0, 1 + 2 * self.round), q, p)
    }

    fn pick(&mut self, cell: usize, weights: &[f64]) -> usize {
        invert(weights, rng::uniform(self.seed, cell as u32, 0, 2 + 2 * self.round))
    }
}

impl Decoder {
    fn plan(&self, stream: &Stream, auto: usize) -> Plan {
        match self {
            Self::Sequential => sequential::plan(stream),
            Self::Jacobi { state, window } => state.plan(stream, window.unwrap_or(auto)),
            Self::Coupled { state, .. } => {
                let mut guesses = state.guesses();
                let window = state.guesses().count() + 1;
                Plan::new(stream, window, |_, _| guesses.next().unwrap_or_default())
            }
        }
    }
}

impl Running {
    /// Checks a request and lays out its sequences. `given` holds the codes of the upper panel.
    pub(crate) fn new(
        model: &Model,
        id: u64,
        request: &Request,
        given: &[u32],
    ) -> Result<Self, EngineError> {
        let grid = Grid::of_pixels(request.width, request.height)?;
        check_sampler(&request.sampler)?;
        let prompt = model.prompt_ids(&request.prompt)?;
        let opening = grid.opening(given, model.token_ids())?;
        let stream = Stream::new(grid, model.token_ids().clone(), prompt, opening);
        Self::of_stream(model, id, stream, request.sampler.clone(), request.seed)
    }

    /// A request whose sequence is laid out already.
    pub(crate) fn of_stream(
        model: &Model,
        id: u64,
        stream: Stream,
        sampler: Sampler,
        seed: u64,
    ) -> Result<Self, EngineError> {
        let decoder = match sampler.decoding {
            Decoding::Sequential => Decoder::Sequential,
            Decoding::Jacobi { window } => {
                let window = match window {
                    Window::Auto => None,
                    Window::Fixed(n) => Some(n),
                };
                Decoder::Jacobi { state: Jacobi::default(), window }
            }
            Decoding::Coupled { window } => {
                let window = match window {
                    Window::Auto => model.coupled_window(),
                    Window::Fixed(n) => n,
                };
                Decoder::Coupled { state: Coupled::new(window), round: 0 }
            }
        };
        let guidance =
            guidance_table(sampler.guidance, sampler.cfg, stream.grid(), stream.opening());
        Ok(Self {
            id,
            stream,
            guided: sampler.cfg != 1.0,
            sampler,
            seed,
            guidance,
            steps: 0,
            decoder,
        })
    }

    /// Positions that each branch needs in the end: image end is never fed.
    pub(crate) fn positions(&self) -> (usize, Option<usize>) {
        let image = self.stream.grid().len();
        (self.stream.prompt().len() + image, self.guided.then_some(image))
    }

    /// Whether its decoder draws from laws by itself.
    pub(crate) fn wants_laws(&self) -> bool {
        matches!(self.decoder, Decoder::Coupled { .. })
    }

    /// Takes what the wanted cells came to; returns the tokens of the image part that the caches keep.
    ///
    /// # Errors
    /// The scores of a cell that counts were not finite numbers.
    pub(crate) fn accept(
        &mut self,
        plan: &Plan,
        choices: Vec<Choice>,
    ) -> Result<usize, EngineError> {
        let stream = &mut self.stream;
        let first = stream.cell(plan.wanted[0]).unwrap_or_default();
        let bad = || EngineError::NotANumber { cell: first };
        if let Decoder::Coupled { state, round } = &mut self.decoder {
            let laws: Option<Vec<Vec<f32>>> = choices.into_iter().map(Choice::law).collect();
            let left = stream.grid().cells() - first;
            let mut draws = RoundDraws { seed: self.seed, round: *round };
            let codes = state.accept(first, left, laws.ok_or_else(bad)?, &mut draws);
            *round += 1;
            codes.iter().for_each(|code| stream.push(*code));
            return Ok(plan.wanted[codes.len() - 1]);
        }
        // Codes behind a wrong guess do not count, so a bad cell among them is not an error; the first always counts.
        let codes: Vec<u32> = choices.into_iter().map_while(Choice::code).collect();
        let code = *codes.first().ok_or_else(bad)?;
        Ok(match &mut self.decoder {
            Decoder::Jacobi { state, .. } => state.accept(stream, &plan.first(codes.len()), &codes),
            Decoder::Sequential | Decoder::Coupled { .. } => sequential::accept(stream, code),
        })
    }
}

impl Slot {
    /// Takes a request: its caches keep what they hold of its sequences, and are allocated or grown where they are too short.
    pub(crate) fn take(&mut self, model: &Model, running: Running) {
        let (conditional, unconditional) = running.positions();
        let image = running.stream.image();
        let whole = [running.stream.prompt(), image].concat();
        prepare(&mut self.conditional, model, conditional, &whole);
        if let Some(positions) = unconditional {
            prepare(&mut self.unconditional, model, positions, image);
        }
        self.running = Some(running);
    }

    /// What the request does in this step; `None` for an empty slot. `auto` chooses a window by (branches, context).
    pub(crate) fn turn(&mut self, auto: impl FnOnce(usize, usize) -> usize) -> Option<Turn> {
        let running = self.running.as_mut()?;
        let held = |cache: &Option<BranchCache>| cache.as_ref().map_or(0, BranchCache::len);
        let unconditional = running.guided.then(|| held(&self.unconditional));
        let cached = Cached { conditional: held(&self.conditional), unconditional };
        let Running { stream, decoder, guided, .. } = running;
        let plan = || {
            let chosen = match decoder {
                Decoder::Jacobi { window: None, .. } => {
                    auto(1 + usize::from(*guided), cached.conditional)
                }
                _ => 1,
            };
            decoder.plan(stream, chosen)
        };
        let turn = Turn::next(stream, cached, plan);
        if let Turn::Decode { .. } = turn {
            running.steps += 1;
        }
        Some(turn)
    }

    /// The cache of a branch: 0 the conditional one, 1 the other.
    pub(crate) fn cache(&self, branch: usize) -> Option<&BranchCache> {
        [&self.conditional, &self.unconditional][branch].as_ref()
    }

    /// Takes the cache of a branch out, to be put back.
    pub(crate) fn take_cache(&mut self, branch: usize) -> Option<BranchCache> {
        [&mut self.conditional, &mut self.unconditional][branch].take()
    }

    /// Puts it back.
    pub(crate) fn put_cache(&mut self, branch: usize, cache: BranchCache) {
        *[&mut self.conditional, &mut self.unconditional][branch] = Some(cache);
    }

    /// Both caches, conditional first.
    pub(crate) fn caches(&mut self) -> [Option<&mut BranchCache>; 2] {
        [self.conditional.as_mut(), self.unconditional.as_mut()]
    }

    /// Forgets what was fed behind `keep` tokens of the image part.
    pub(crate) fn roll_back(&mut self, keep: usize) {
        let Some(running) = &self.running else { return };
        let prompt = running.stream.prompt().len();
        if let Some(cache) = &mut self.conditional {
            cache.truncate(prompt + keep);
        }
        if let (true, Some(cache)) = (running.guided, &mut self.unconditional) {
            cache.truncate(keep);
        }
    }
}

fn prepare(cache: &mut Option<BranchCache>, model: &Model, positions: usize, sequence: &[u32]) {
    let transformer = model.transformer();
    match cache {
        Some(cache) if cache.capacity() >= positions => {
            let held = common(cache.tokens(), sequence);
            cache.restart(held, transformer.rope(positions));
        }
        _ => *cache = Some(transformer.cache(positions, model.kv_cache())),
    }
}

fn check_sampler(sampler: &Sampler) -> Result<(), EngineError> {
    let fail = |reason: &str| Err(EngineError::BadRequest(reason.to_owned()));
    if !sampler.cfg.is_finite() {
        return fail("the guidance scale is not a finite number");
    }
    if !(sampler.temperature >= 0.0 && sampler.temperature.is_finite()) {
        return fail("the temperature is negative or not a finite number");
    }
    if sampler.top_k == 0 {
        return fail("top_k is 0; it must keep at least one code");
    }
    match sampler.decoding {
        Decoding::Jacobi { window: Window::Fixed(0) }
        | Decoding::Coupled { window: Window::Fixed(0) } => {
            fail("the window is 0; it must hold at least one position")
        }
        _ => Ok(()),
    }
}

/// Whether a slot runs a request of this id.
pub(crate) fn same_id(slots: &[Slot], id: u64) -> bool {
    slots.iter().filter_map(|slot| slot.running.as_ref()).any(|running| running.id == id)
}

/// Whether the upper panel of a request can be given.
///
/// # Errors
/// There is no image tokenizer to read it, or its size is not that of the upper half.
pub(crate) fn check_panel(
    model: &Model,
    request: &Request,
    panel: &RgbImage,
) -> Result<(), EngineError> {
    if !model.makes_pictures() {
        return Err(EngineError::NoImageTokenizer);
    }
    let (w, h) = (panel.width, panel.height);
    if !request.height.is_multiple_of(64) {
        return Err(EngineError::BadRequest(format!(
            "the height is {}; with a given panel it must be a multiple of 64",
            request.height
        )));
    }
    if (w, h) != (request.width, request.height / 2) {
        let reason = format!(
            "the given panel is {w}x{h}, the upper half of the picture is {}x{}",
            request.width,
            request.height / 2
        );
        return Err(EngineError::BadRequest(reason));
    }
    Ok(())
}
