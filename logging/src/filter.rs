//! What is logged: a level, or directives by module.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// A filter that can't be read. It names what is wrong, for the operator.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(String);

/// Checks a level or filter directives without installing anything.
///
/// # Errors
/// [`FilterError`].
pub fn check_filter(text: &str) -> Result<(), FilterError> {
    parse(text).map(drop)
}

/// A bare word must be a level: `EnvFilter` would take it for a module's name and log nothing of ours.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, FilterError> {
    let is_word = !text.contains(['=', ',', '[']);
    if text.is_empty() || (is_word && text.parse::<LevelFilter>().is_err()) {
        return Err(FilterError("no such level".to_owned()));
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| FilterError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_levels_and_directives() {
        for good in ["error", "info", "off", "info,tidepool_api=debug"] {
            assert_eq!(check_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "tidepool_api=loud", "info,x=3z"] {
            assert!(check_filter(bad).is_err(), "{bad}");
        }
    }
}
