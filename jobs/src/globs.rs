//! Which keys below a prefix are taken. The rules stand here once, for `validate` and for whoever lists.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// Compiled `include` and `exclude` patterns. `*` and `?` stop at `/`, `**` does not; case is ignored.
#[derive(Debug, Clone)]
pub struct Globs {
    include: GlobSet,
    exclude: GlobSet,
}

impl Globs {
    /// Compiles patterns that [`crate::parse`] accepted.
    ///
    /// # Errors
    /// The words of the first bad pattern.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, String> {
        Ok(Self { include: set(include)?, exclude: set(exclude)? })
    }

    /// Whether a key is taken. `key` is what follows the prefix.
    pub fn takes(&self, key: &str) -> bool {
        !key.is_empty()
            && !key.ends_with('/')
            && self.include.is_match(key)
            && !self.exclude.is_match(key)
    }

    /// Whether one pattern can be compiled, else why not.
    pub(crate) fn check(pattern: &str) -> Result<(), String> {
        const LONGEST_BYTES: usize = 1000;
        if pattern.is_empty() || pattern.len() > LONGEST_BYTES {
            return Err(format!("it must have 1 to {LONGEST_BYTES} bytes"));
        }
        set(&[pattern.to_owned()]).map(|_| ())
    }
}

fn set(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(compile(pattern).map_err(|error| error.kind().to_string())?);
    }
    set.build().map_err(|error| error.kind().to_string())
}

fn compile(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).case_insensitive(true).build()
}

#[cfg(test)]
mod tests {
    use super::Globs;

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        let globs =
            Globs::new(&["**/*.jpg".to_owned(), "top/*".to_owned()], &["**/thumbs/**".to_owned()])
                .unwrap();
        for (key, taken) in [
            ("a.jpg", true),
            ("deep/er/a.JPG", true),
            ("a.png", false),
            ("top/x", true),
            ("top/x/y", false),
            ("rooms/thumbs/a.jpg", false),
            ("thumbs/a.jpg", false),
            ("rooms/", false),
            ("", false),
        ] {
            assert_eq!(globs.takes(key), taken, "{key}");
        }
        assert!(Globs::check("a[").is_err());
    }
}
