//! The scenes' own randomness: splitmix64, a function of the seed and the name of a stream.

/// What a run of numbers is for; each has its own, so that one more draw here moves nothing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// What is where.
    Layout = 1,
    /// What the caption leaves out.
    Caption = 2,
    /// The edit.
    Edit = 3,
    /// The subject's other scene.
    Subject = 4,
}

/// splitmix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The numbers of a seed and a stream.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = Self(seed ^ (stream as u64).wrapping_mul(0xD1B5_4A32_D192_ED03));
        rng.next();
        rng
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n`, which is at least 1 and small beside 2^32.
    pub fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// A number in [low, high).
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// True with this probability in percent.
    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    /// One of the values.
    ///
    /// # Panics
    /// An empty list.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// The values in random order.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for i in (1..values.len()).rev() {
            values.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let draw = |seed, stream| {
            let mut rng = Rng::new(seed, stream);
            [rng.below(1000), rng.below(1000), rng.below(1000)]
        };
        assert_eq!(draw(7, Stream::Layout), draw(7, Stream::Layout));
        assert_ne!(draw(7, Stream::Layout), draw(7, Stream::Edit));
        assert_ne!(draw(7, Stream::Layout), draw(8, Stream::Layout));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut rng = Rng::new(1, Stream::Layout);
        let mut counts = [0; 5];
        for _ in 0..10_000 {
            counts[rng.below(5)] += 1;
        }
        assert!(counts.iter().all(|n| (1850..2150).contains(n)), "{counts:?}");
    }
}
