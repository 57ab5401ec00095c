//! The window of `auto`: the one that promises most codes a millisecond, by what was measured.
//!
//! Jacobi decoding returns the same ids for every window, so measuring may choose it. [`best`] is a pure function of two
//! tables; [`Meter`] fills them from the steps that an engine runs.

/// Windows that are considered.
pub(crate) const CANDIDATES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Windows of the first steps, so that there is something to fit.
const EXPLORE: [usize; 6] = [1, 8, 4, 16, 2, 8];

/// Steps between two choices.
const EVERY: u64 = 16;

/// Weight of a step among those before it.
const FORGET: f64 = 0.97;

/// What is known of a machine and a model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tables {
    /// (rows, milliseconds) of a step at the present context, ascending by rows.
    pub(crate) step_ms: Vec<(usize, f64)>,
    /// (window, codes accepted by a step), ascending by window.
    pub(crate) accepted: Vec<(usize, f64)>,
}

/// The window with most accepted codes a millisecond; the smaller one on ties. Each of its cells is a row in each branch,
/// beside `other` rows of the same step.
pub(crate) fn best(tables: &Tables, branches: usize, other: usize) -> usize {
    let mut best = (1, 0.0);
    for (window, accepted) in &tables.accepted {
        let rate = accepted
            / interpolate(&tables.step_ms, window * branches + other).max(f64::MIN_POSITIVE);
        // A hundredth more is noise, and a larger window costs the other slots.
        if rate > best.1 * 1.01 {
            best = (*window, rate);
        }
    }
    best.0
}

/// Piecewise linear between the entries, in proportion behind the last one.
fn interpolate(table: &[(usize, f64)], rows: usize) -> f64 {
    let Some(after) = table.iter().position(|(at, _)| *at >= rows) else {
        return table.last().map_or(0.0, |(at, ms)| ms * rows as f64 / (*at).max(1) as f64);
    };
    let (x1, y1) = table[after];
    let (x0, y0) = if after > 0 {
        table[after - 1]
    } else {
        return y1;
    };
    y0 + (y1 - y0) * (rows - x0) as f64 / (x1 - x0) as f64
}

/// Fits step times and acceptance to the steps that were run, the recent ones counting most.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    /// Normal equations of ms = a + b rows + c rows context.
    normal: [[f64; 4]; 3],
    /// (kept, tried) of the guess at each place of a window.
    guesses: Vec<(f64, f64)>,
    steps: u64,
    window: usize,
}

impl Default for Meter {
    fn default() -> Self {
        let places = CANDIDATES[CANDIDATES.len() - 1];
        Self {
            normal: [[0.0; 4]; 3],
            guesses: vec![(0.5, 1.0); places],
            steps: 0,
            window: EXPLORE[0],
        }
    }
}

impl Meter {
    /// Takes the time of a step of so many rows at a mean context (positions).
    pub(crate) fn step(&mut self, rows: usize, context: usize, ms: f64) {
        let x = [1.0, rows as f64, rows as f64 * context as f64];
        for (i, equation) in self.normal.iter_mut().enumerate() {
            for (j, entry) in equation.iter_mut().enumerate() {
                *entry = *entry * FORGET + x[i] * if j < 3 { x[j] } else { ms };
            }
        }
    }

    /// Takes how many codes of a window were accepted.
    pub(crate) fn accepted(&mut self, window: usize, codes: usize) {
        for (i, (kept, tried)) in self.guesses.iter_mut().enumerate().take(window.saturating_sub(1))
        {
            // Code 0 always counts; code i + 1 counts when guess i was right.
            if i >= codes {
                break;
            }
            *kept = *kept * FORGET + f64::from(u8::from(codes > i + 1));
            *tried = *tried * FORGET + 1.0;
        }
    }

    /// The window of the next step of a request.
    pub(crate) fn window(&mut self, branches: usize, other: usize, context: usize) -> usize {
        let step = self.steps;
        self.steps += 1;
        if let Some(window) = EXPLORE.get(step as usize) {
            return *window;
        }
        if step % EVERY == EXPLORE.len() as u64 % EVERY {
            self.window = best(&self.tables(context), branches, other);
        }
        self.window
    }

    /// The tables at a context.
    pub(crate) fn tables(&self, context: usize) -> Tables {
        let [fixed, row, row_position] = solve(self.normal);
        let ms = |rows: usize| fixed + rows as f64 * (row + row_position * context as f64);
        let step_ms = (0..=10).map(|power| (1 << power, ms(1 << power).max(1e-6))).collect();
        let (mut accepted, mut right, mut sum) = (Vec::new(), 1.0, 0.0);
        for place in 0..CANDIDATES[CANDIDATES.len() - 1] {
            sum += right;
            if CANDIDATES.contains(&(place + 1)) {
                accepted.push((place + 1, sum));
            }
            let (kept, tried) = self.guesses[place];
            right *= kept / tried;
        }
        Tables { step_ms, accepted }
    }
}

/// Non-negative least squares of three unknowns, roughly: a small ridge, and negative results count as zero.
fn solve(mut m: [[f64; 4]; 3]) -> [f64; 3] {
    for (i, row) in m.iter_mut().enumerate() {
        row[i] += 1e-9 + row[i] * 1e-9;
    }
    for i in 0..3 {
        let pivot = m[i];
        for (_, row) in m.iter_mut().enumerate().filter(|(j, _)| *j != i) {
            let factor = row[i] / pivot[i];
            for (entry, above) in row.iter_mut().zip(pivot) {
                *entry -= factor * above;
            }
        }
    }
    [0, 1, 2].map(|i| (m[i][3] / m[i][i]).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Step times of the form fixed + rows * each, and guesses that are right with one probability.
    fn tables(fixed: f64, each: f64, right: f64) -> Tables {
        let accepted = |window: usize| (0..window).map(|i| right.powi(i as i32)).sum();
        Tables {
            step_ms: (0..=10)
                .map(|power| (1 << power, fixed + each * f64::from(1 << power)))
                .collect(),
            accepted: CANDIDATES.iter().map(|window| (*window, accepted(*window))).collect(),
        }
    }

    #[test]
    fn memory_bound_machines_take_wide_windows_and_arithmetic_bound_ones_narrow() {
        assert!(best(&tables(20.0, 0.02, 0.9), 2, 0) > 8, "memory-bound");
        assert!(best(&tables(0.1, 2.0, 0.9), 2, 0) <= 2, "arithmetic-bound");
        assert_eq!(
            best(&tables(20.0, 0.02, 0.0), 2, 0),
            1,
            "guesses that are never right buy nothing"
        );
        assert!(
            best(&tables(5.0, 0.5, 0.9), 2, 64) >= best(&tables(5.0, 0.5, 0.9), 2, 0),
            "rows beside are paid already"
        );
    }

    #[test]
    fn the_meter_finds_the_fit_and_follows_the_context() {
        let mut meter = Meter::default();
        for i in 0..400 {
            let (rows, context) = (2 << (i % 6), 200 * (i % 11));
            let ms = 10.0 + rows as f64 * (0.05 + 0.002 * context as f64);
            meter.step(rows, context, ms);
            meter.accepted(16, if i % 8 == 0 { 3 } else { 16 });
        }
        let near = best(&meter.tables(0), 2, 0);
        let far = best(&meter.tables(8000), 2, 0);
        assert!(near > 8 && far <= 4, "{near} without context, {far} with much");
        let (_, ms) = meter.tables(1000).step_ms[4];
        assert!((ms - (10.0 + 16.0 * 2.05)).abs() < 0.5, "{ms}");
    }

    #[test]
    fn the_first_steps_try_several_windows() {
        let mut meter = Meter::default();
        let windows: Vec<usize> = (0..EXPLORE.len()).map(|_| meter.window(2, 0, 10)).collect();
        assert_eq!(windows, EXPLORE);
        assert!(CANDIDATES.contains(&meter.window(2, 0, 10)));
    }
}
