//! Raw to valid.
pub(crate) fn parse(name: &str, text: &str) -> Result<crate::Parsed, crate::SpecErrors> {
    let _ = text;
    Err(crate::SpecErrors::new(name, text, Vec::new()))
}
