//! The log of an attempt: short lines for people, kept with the job and bounded.

use std::time::Instant;

/// Bytes of lines that wait for the next report; beyond it lines are counted and left out.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one line.
const LINE_BYTES_MAX: usize = 2_000;

/// Lines that were not sent yet. Times are seconds since the attempt began, which the database records.
#[derive(Debug)]
pub(crate) struct AttemptLog {
    began: Instant,
    waiting: String,
    left_out: u64,
    /// Sent, but maybe not arrived: repeated word for word, which is how the store knows a repetition.
    in_doubt: Option<String>,
}

impl AttemptLog {
    pub(crate) fn new(began: Instant) -> Self {
        Self { began, waiting: String::new(), left_out: 0, in_doubt: None }
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, text: &str) {
        if self.waiting.len() > WAITING_BYTES_MAX {
            self.left_out += 1;
            return;
        }
        let seconds = self.began.elapsed().as_secs_f64();
        let mut end = text.len().min(LINE_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let clean: String =
            text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.waiting.push_str(&format!("{seconds:9.3}s {clean}\n"));
    }

    /// What the next report carries.
    pub(crate) fn take(&mut self) -> Option<String> {
        if let Some(again) = self.in_doubt.take() {
            return Some(again);
        }
        if self.left_out > 0 {
            let lines = self.left_out;
            self.left_out = 0;
            self.waiting.push_str(&format!("          ({lines} lines left out)\n"));
        }
        (!self.waiting.is_empty()).then(|| std::mem::take(&mut self.waiting))
    }

    /// A report that may not have arrived comes back.
    pub(crate) fn give_back(&mut self, log: Option<String>) {
        self.in_doubt = log;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_a_repetition_is_word_for_word() {
        let mut log = AttemptLog::new(Instant::now());
        log.line("one\ntwo");
        let first = log.take().unwrap();
        assert!(first.ends_with("s one two\n"), "{first:?}");
        assert_eq!(log.take(), None);
        log.give_back(Some(first.clone()));
        log.line("three");
        assert_eq!(log.take(), Some(first));
        assert!(log.take().unwrap().contains("three"));
        for _ in 0..100 {
            log.line(&"é".repeat(5_000));
        }
        let full = log.take().unwrap();
        assert!(full.len() < WAITING_BYTES_MAX + 2 * LINE_BYTES_MAX, "{}", full.len());
        assert!(full.ends_with("lines left out)\n"));
    }
}
