//! No text makes the reader take much memory. A binary of its own, so that other tests do not count.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nightshift_jobs::parse;

fn laughs() -> String {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..30 {
        let names = vec![format!("*a{}", n - 1); 9].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{names}]\n"));
    }
    text
}

#[test]
fn memory_stays_bounded() {
    let before = peak_kib();
    let texts = [
        ("laughs", laughs()),
        ("brackets", "[".repeat(1 << 20)),
        ("quoted", format!("a: \"{}\"", "x".repeat((1 << 20) - 10))),
        ("rows", "- a\n".repeat(19_990)),
        ("keys", (0..9_900).map(|n| format!("k{n}: x\n")).collect()),
        ("commas", format!("a: [{}]", ",".repeat(1_000_000))),
        ("plain", format!("a: {}", "x y ".repeat(260_000))),
        ("questions", "? ".repeat(500_000)),
        ("dashes", "- ".repeat(500_000)),
    ];
    for (what, text) in texts {
        let _ = parse("job.yaml", &text);
        let grown = peak_kib().saturating_sub(before);
        assert!(grown < 50 * 1024, "{what}: reading took {grown} KiB");
    }
}

/// The most memory this process ever had resident, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
