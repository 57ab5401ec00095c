//! A measured figure with its unit, what is asked of it, and whether it is met.

use serde_json::{Map, Value, json};

/// What is asked of a figure.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asked {
    AtLeast(f64),
    AtMost(f64),
    Nothing,
}

/// All figures of a run, by name.
#[derive(Debug, Default)]
pub(super) struct Figures {
    figures: Map<String, Value>,
    missed: Vec<String>,
}

impl Figures {
    pub(super) fn add(&mut self, name: &str, value: f64, unit: &str, asked: Asked) {
        let rounded = (value * 1000.0).round() / 1000.0;
        let mut figure = json!({"value": rounded, "unit": unit});
        let met = match asked {
            Asked::AtLeast(bound) => {
                figure["at_least"] = json!(bound);
                value >= bound
            }
            Asked::AtMost(bound) => {
                figure["at_most"] = json!(bound);
                value <= bound
            }
            Asked::Nothing => true,
        };
        if !matches!(asked, Asked::Nothing) {
            figure["met"] = json!(met);
        }
        if !met {
            self.missed.push(name.to_owned());
        }
        self.figures.insert(name.to_owned(), figure);
    }

    pub(super) fn missed(&self) -> &[String] {
        &self.missed
    }

    pub(super) fn into_json(self) -> Value {
        Value::Object(self.figures)
    }
}

/// The value below which this share of the samples lies; sorts them.
pub(super) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index into a small list"
    )]
    let index = (last as f64 * share).round() as usize;
    samples.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_bound_is_named() {
        let mut figures = Figures::default();
        figures.add("fast", 2.0, "1/s", Asked::AtLeast(1.0));
        figures.add("slow", 9.0, "ms", Asked::AtMost(6.0));
        figures.add("seen", 1.0, "ms", Asked::Nothing);
        assert_eq!(figures.missed(), ["slow"]);
        let json = figures.into_json();
        assert_eq!(json["slow"]["met"], false);
        assert!(json["seen"].get("met").is_none());
    }

    #[test]
    fn percentiles_are_samples() {
        let mut samples = [3.0, 1.0, 2.0];
        assert!((percentile(&mut samples, 0.5) - 2.0).abs() < 1e-9);
        assert!((percentile(&mut samples, 0.99) - 3.0).abs() < 1e-9);
    }
}
