//! Which places a tenant may touch. The same rule as `nightshift.is_allowed` of the database; a test compares them.

/// Whether `uri` is one of the prefixes or lies below one: `s3://cats` holds `s3://cats/a` and not `s3://cats-and-dogs/a`;
/// nothing is below a prefix by way of `..`.
#[must_use]
pub fn is_allowed(uri: &str, prefixes: &[String]) -> bool {
    let below = |prefix: &String| match uri.strip_prefix(prefix.as_str()) {
        Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
        None => false,
    };
    !uri.split('/').any(|part| part == "..") && prefixes.iter().any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_not_the_prefix_of_another() {
        let allowed = |uri, prefix: &str| is_allowed(uri, &[prefix.to_owned()]);
        assert!(allowed("s3://cats/a/", "s3://cats/"));
        assert!(allowed("s3://cats/a", "s3://cats"));
        assert!(allowed("s3://cats/a", "s3://"));
        assert!(!allowed("s3://cats-and-dogs/a", "s3://cats"));
        assert!(!allowed("s3://cats/", "s3://cats/a/"));
        assert!(!allowed("s3://cats/a/../../dogs/b", "s3://cats/a/"));
        assert!(!is_allowed("s3://cats/a", &[]));
    }
}
