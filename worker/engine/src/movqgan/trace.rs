//! Activations for comparisons, under the reference's module names; nothing is computed unless it is asked for.

use super::map::Map;

/// Receives activations, or drops them unseen.
pub(crate) struct Trace<'a>(Option<Sink<'a>>);

type Sink<'a> = &'a mut dyn FnMut(&str, &Map);

impl<'a> Trace<'a> {
    /// Drops every activation.
    pub(crate) fn off() -> Self {
        Self(None)
    }

    /// Every activation goes to `sink` with its module's full name.
    pub(crate) fn to(sink: Sink<'a>) -> Self {
        Self(Some(sink))
    }

    /// Shows a map that exists anyway. An empty `part` means the module itself.
    pub(super) fn show(&mut self, module: &str, part: &str, map: &Map) {
        if let Some(sink) = &mut self.0 {
            sink(&join(module, part), map);
        }
    }

    /// Computes and shows a map that would not exist otherwise.
    pub(super) fn emit(&mut self, module: &str, part: &str, map: impl FnOnce() -> Map) {
        if let Some(sink) = &mut self.0 {
            sink(&join(module, part), &map());
        }
    }
}

fn join(module: &str, part: &str) -> String {
    if part.is_empty() { module.to_owned() } else { format!("{module}.{part}") }
}
