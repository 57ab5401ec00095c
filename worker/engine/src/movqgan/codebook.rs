//! Latents to codes and back (`reference/movqgan.md` section 4).

use super::map::Map;
use crate::kernels::Pool;

/// Positions of one task.
const POSITIONS: usize = 32;

/// The table of code vectors.
#[derive(Debug, Clone)]
pub(crate) struct Codebook {
    /// Codes.
    pub(crate) n: usize,
    /// Length of a code vector.
    pub(crate) dim: usize,
    /// (n, dim)
    rows: Vec<f32>,
    /// (dim, n), for the search.
    columns: Vec<f32>,
}

impl Codebook {
    /// From the table (n, dim).
    pub(crate) fn new(n: usize, dim: usize, rows: Vec<f32>) -> Self {
        assert_eq!(rows.len(), n * dim, "the table fills its shape");
        let columns = (0..n * dim).map(|i| rows[i % n * dim + i / n]).collect();
        Self { n, dim, rows, columns }
    }

    /// The nearest code of each position in row-major order; on ties the lowest. Distances are the sum of squared differences,
    /// in f64: upstream's expanded f32 form loses digits to cancellation and agrees wherever it is sure.
    pub(crate) fn nearest(&self, latents: &Map, pool: &Pool) -> Vec<u32> {
        assert_eq!(latents.c, self.dim, "latents have the length of code vectors");
        let mut codes = vec![0u32; latents.h * latents.w];
        pool.chunks_mut(&mut codes, POSITIONS, |chunk, codes| {
            let mut distances = vec![0.0f64; self.n];
            for (i, code) in codes.iter_mut().enumerate() {
                let z = &latents.data[(chunk * POSITIONS + i) * self.dim..][..self.dim];
                distances.fill(0.0);
                for (z, column) in z.iter().zip(self.columns.chunks_exact(self.n)) {
                    for (distance, e) in distances.iter_mut().zip(column) {
                        let difference = f64::from(*z) - f64::from(*e);
                        *distance += difference * difference;
                    }
                }
                let mut best = 0;
                for (n, distance) in distances.iter().enumerate() {
                    if *distance < distances[best] {
                        best = n;
                    }
                }
                *code = best as u32;
            }
        });
        codes
    }

    /// The vectors of row-major codes, (h, w, dim); `None` when a code is not in the table.
    pub(crate) fn look_up(&self, codes: &[u32], h: usize, w: usize) -> Option<Map> {
        let mut map = Map::zeros(h, w, self.dim);
        for (&code, vector) in codes.iter().zip(map.data.chunks_exact_mut(self.dim)) {
            vector.copy_from_slice(self.rows.get(code as usize * self.dim..)?.get(..self.dim)?);
        }
        Some(map)
    }
}
