//! Which instruction set the kernels use. All of them give the same bits, so the choice is about speed alone.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set the kernels are written for. Every variant computes the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust; the definition of every result. Runs everywhere (the compiler may use NEON or SSE for it).
    Scalar,
    /// AVX2 with FMA, eight lanes to a register.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL), two groups of eight lanes to a register.
    Avx512,
}

/// The named instruction set is unknown, or this machine lacks it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kernel choice {asked:?} is not available here; this machine has: {available}")]
pub struct UnsupportedIsa {
    /// What was asked for.
    pub asked: String,
    /// What there is, separated by commas.
    pub available: String,
}

impl UnsupportedIsa {
    fn new(asked: &str) -> Self {
        let names: Vec<_> = Isa::available().into_iter().map(Isa::name).collect();
        Self { asked: asked.to_owned(), available: names.join(", ") }
    }
}

impl Isa {
    /// The fastest instruction set of this machine.
    pub fn best() -> Self {
        if cfg!(miri) {
            return Self::Scalar;
        }
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                let wide = is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl");
                return if wide { Self::Avx512 } else { Self::Avx2 };
            }
        }
        Self::Scalar
    }

    /// All that this machine can run, slowest first.
    pub fn available() -> Vec<Self> {
        let best = Self::best();
        [Self::Scalar, Self::Avx2, Self::Avx512].into_iter().filter(|isa| *isa <= best).collect()
    }

    /// The name used in configuration and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}

impl FromStr for Isa {
    type Err = UnsupportedIsa;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::available()
            .into_iter()
            .find(|isa| isa.name() == text)
            .ok_or_else(|| UnsupportedIsa::new(text))
    }
}

const UNDECIDED: u8 = u8::MAX;
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

/// Forces the instruction set for the whole process, or with `None` goes back to the best one.
///
/// Results do not change, only speed; so it may be called at any time, also beside running work.
///
/// # Errors
/// [`UnsupportedIsa`] when this machine lacks the instruction set; nothing changes then.
pub fn force_isa(isa: Option<Isa>) -> Result<(), UnsupportedIsa> {
    let isa = isa.unwrap_or_else(Isa::best);
    if !Isa::available().contains(&isa) {
        return Err(UnsupportedIsa::new(isa.name()));
    }
    CHOICE.store(isa as u8, Ordering::Relaxed);
    Ok(())
}

/// The instruction set in use: the forced one, else the best of this machine.
pub fn current_isa() -> Isa {
    match CHOICE.load(Ordering::Relaxed) {
        0 => Isa::Scalar,
        1 => Isa::Avx2,
        2 => Isa::Avx512,
        _ => {
            let best = Isa::best();
            CHOICE.store(best as u8, Ordering::Relaxed);
            best
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_unknown_ones_are_refused_with_the_list() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
        }
        let error = "sse9".parse::<Isa>().unwrap_err();
        assert!(error.to_string().contains("scalar"), "{error}");
    }

    #[test]
    fn the_scalar_kernels_can_be_forced_and_released() {
        force_isa(Some(Isa::Scalar)).unwrap();
        assert_eq!(current_isa(), Isa::Scalar);
        force_isa(None).unwrap();
        assert_eq!(current_isa(), Isa::best());
    }
}
