//! Sets up the log: to standard error, quiet about libraries, as text or JSON.

use super::options::{LogFormat, LogOptions};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Libraries that speak of everyday events. A filter of the user's that names them wins.
const NOISE: &str = "openraft=error,openraft::progress::entry=warn,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,rustls=warn,axum=warn";

/// Starts logging. The filter has been given by the user, so a wrong one is told.
pub(crate) fn start(options: &LogOptions) -> Result<(), String> {
    let filter = filter(options.filter.as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match options.format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| format!("cannot start logging: {error}"))
}

fn filter(wanted: Option<&str>) -> Result<EnvFilter, String> {
    let wanted = wanted.unwrap_or("info");
    // By itself first, for an error that shows only what the user wrote.
    EnvFilter::try_new(wanted).map_err(|error| {
        format!("log filter '{wanted}': {error}: use a level such as info, or info,node=debug")
    })?;
    EnvFilter::try_new(format!("{NOISE},{wanted}")).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for (wanted, expected) in [
            (None, Ok("openraft=error")),
            (Some("debug"), Ok("openraft=error")),
            (Some("info,openraft=debug"), Ok("openraft=debug")),
            (Some("no=such=thing"), Err("no=such=thing")),
        ] {
            match (filter(wanted), expected) {
                (Ok(filter), Ok(part)) => {
                    assert!(filter.to_string().contains(part), "{wanted:?}: {filter}")
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{wanted:?}: {error}"),
                (result, _) => panic!("{wanted:?}: {result:?}"),
            }
        }
    }
}
