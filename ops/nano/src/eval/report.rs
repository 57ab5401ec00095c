//! The table: means over scenes, and as rows of data.

use serde_json::{Value, json};

use super::tasks::Task;

/// Columns of a measure: the model, the tokenizer's bound, the trivial baseline.
pub const COLUMNS: [&str; 3] = ["model", "bound", "baseline"];

/// The values of a task, by measure and column, in the order of the scenes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores(Vec<(&'static str, [Vec<f64>; 3])>);

impl Scores {
    /// Adds a scene's value.
    pub fn push(&mut self, name: &'static str, column: usize, value: f64) {
        let at = self.0.iter().position(|(known, _)| *known == name);
        let at = at.unwrap_or_else(|| {
            self.0.push((name, Default::default()));
            self.0.len() - 1
        });
        self.0[at].1[column].push(value);
    }
}

/// One task's results.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReport {
    /// The task.
    pub task: Task,
    /// Scenes that were drawn.
    pub scenes: usize,
    /// Steps of all pictures.
    pub steps: u64,
    /// Steps that sequential decoding takes for them.
    pub sequential: u64,
    /// What was measured.
    pub scores: Scores,
}

/// All results.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the table.
    pub tasks: Vec<TaskReport>,
}

impl Report {
    /// One row a measure; with `values` also each scene's, so that two runs can be compared pair by pair.
    #[must_use]
    pub fn rows(&self, values: bool) -> Vec<Value> {
        let mut rows = Vec::new();
        for task in &self.tasks {
            let pictures = task.scenes.max(1) as f64;
            for (name, columns) in &task.scores.0 {
                let mut row = json!({
                    "task": task.task.name(),
                    "measure": name,
                    "n": columns[0].len(),
                    "two_errors": two_errors(&columns[0]),
                    "steps": task.steps as f64 / pictures,
                    "sequential": task.sequential as f64 / pictures,
                    "steps_ratio": task.steps as f64 / task.sequential.max(1) as f64,
                });
                for (column, values) in COLUMNS.iter().zip(columns) {
                    row[*column] = json!(mean(values));
                }
                row["of_bound"] = json!(mean(&columns[0]) / mean(&columns[1]));
                if values {
                    row["values"] = json!(columns[0]);
                }
                rows.push(row);
            }
        }
        rows
    }

    /// The rows with short numbers, for people.
    #[must_use]
    pub fn short(&self) -> Vec<Value> {
        let mut rows = self.rows(false);
        for row in &mut rows {
            for (name, value) in row.as_object_mut().into_iter().flatten() {
                let digits = if name == "steps" || name == "sequential" { 1 } else { 4 };
                if let Some(number) = value.as_f64().filter(|_| value.is_f64()) {
                    *value = json!(format!("{number:.digits$}"));
                }
            }
        }
        rows
    }
}

/// In order, so that it repeats bit for bit.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Twice the standard error of the mean.
fn two_errors(values: &[f64]) -> f64 {
    super::super::metrics::paired(values).1
}
