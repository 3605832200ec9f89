//! Where log lines go: to standard error, for eyes or as JSON. What must never be in them: keys, passwords, bodies,
//! query strings.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Checks a level or filter directives without installing anything.
///
/// # Errors
/// What is wrong, for the operator.
pub fn check_level(text: &str) -> Result<(), String> {
    filter(text).map(drop)
}

/// Installs the process's logger. A second call changes nothing.
///
/// # Errors
/// If the level is none; [`check_level`] tells before.
pub fn install(config: &LogConfig) -> Result<(), String> {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter(&config.level)?);
    let installed = match config.format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // Only tests in one process install it twice; the first one stays.
    drop(installed);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic is a defect; it is caught where it happens, and its line must have the form of all others.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(location, %backtrace, "panic: {}", text.unwrap_or("without words"));
}

/// A bare word must be a level: `EnvFilter` would take it for a module's name and log nothing of ours.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_word = !text.contains(['=', ',', '[']);
    if text.is_empty() || (is_word && text.parse::<tracing::level_filters::LevelFilter>().is_err()) {
        return Err("no such level".to_owned());
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_levels_and_directives() {
        for good in ["error", "info", "off", "info,tidepool_api=debug"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "loud", "tidepool_api=loud", "info,x=3z"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
