//! "did you mean": the known word that is closest to what was written.

/// The nearest word, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const LONGEST: usize = 40;
    let written: Vec<char> =
        written.chars().take(LONGEST + 1).flat_map(char::to_lowercase).collect();
    if written.is_empty() || written.len() > LONGEST {
        return None;
    }
    let allowed = (written.len() / 3).clamp(1, 4);
    known
        .into_iter()
        .map(|word| (distance(&written, &word.to_lowercase().chars().collect::<Vec<_>>()), word))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let width = b.len() + 1;
    let mut rows = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..width {
            let at = i * width + j;
            rows[at] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[at - width - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(rows[at - 1] + 1).min(rows[at - width] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[at - 2 * width - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_slips_and_leaves_strangers_alone() {
        let known = ["top_k", "top_p", "temperature", "cfg"];
        assert_eq!(nearest("topk", known), Some("top_k"));
        assert_eq!(nearest("temprature", known), Some("temperature"));
        assert_eq!(nearest("cgf", known), Some("cfg"));
        assert_eq!(nearest("banana", known), None);
    }
}
