//! Logs on standard error: for people on a terminal, JSON lines elsewhere.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// People on a terminal, JSON lines elsewhere.
    #[default]
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object an event.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            other => Err(format!("log format `{other}` is unknown; use auto, human or json")),
        }
    }
}

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "log filter `{filter}` is invalid: {source}; use a level (info) or directives (stowage_engine=debug,info)"
)]
pub struct FilterError {
    filter: String,
    source: tracing_subscriber::filter::ParseError,
}

/// Whether `filter` can be used, without using it.
///
/// # Errors
/// [`FilterError`] where the filter cannot be parsed.
pub fn check_filter(filter: &str) -> Result<(), FilterError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, FilterError> {
    EnvFilter::builder().parse(filter).map_err(|source| FilterError { filter: filter.to_owned(), source })
}

/// Sends events that pass `filter` (a level or `target=level` directives) to standard error.
///
/// A second call in one process changes nothing, so tests may call it freely.
///
/// # Errors
/// [`FilterError`] where the filter cannot be parsed.
pub fn init(format: LogFormat, filter: &str) -> Result<(), FilterError> {
    let env_filter = parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(env_filter).with_writer(std::io::stderr);
    // Already set up: the first set-up stays.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).try_init()
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_parse_and_others_are_named() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("human".parse(), Ok(LogFormat::Human));
        assert!("xml".parse::<LogFormat>().unwrap_err().contains("`xml`"));
    }

    #[test]
    fn a_bad_filter_is_refused_with_its_text() {
        let error = init(LogFormat::Json, "stowage=loud").unwrap_err();
        assert!(error.to_string().contains("`stowage=loud`"), "{error}");
        assert!(check_filter("stowage=loud").is_err());
        assert!(check_filter("stowage_engine=debug,info").is_ok());
    }
}
