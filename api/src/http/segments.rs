//! The segments of a request's path beside those of its route.

use std::borrow::Cow;

/// Most segments of a path; one with more leads nowhere. The longest route has five.
pub(super) const SEGMENTS_MAX: usize = 8;

/// A path's segments, decoded but not checked yet, and the template that they fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segments<'p> {
    /// The template's own, with `{names}`; none for a path that leads nowhere.
    pub(super) template: &'static [&'static str],
    /// The path's.
    pub(super) given: [Cow<'p, str>; SEGMENTS_MAX],
}

impl Segments<'_> {
    /// The segment that stands for a parameter of the route, if it has one of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.template.iter().zip(&self.given);
        let is_named = |own: &str| own.strip_prefix('{').and_then(|own| own.strip_suffix('}')) == Some(name);
        pairs
            .find(|(own, _)| is_named(own))
            .map(|(_, segment)| &**segment)
    }
}
