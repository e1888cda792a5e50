//! Sets up the log: to standard error, quiet about libraries, as text or JSON.

use super::options::{LogFormat, LogOptions};
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::EnvFilter;

/// Libraries that speak of everyday events. A filter of the user's that names them wins. Three parts of openraft
/// complain of every call that comes while a group is stopped; a group that fails says so itself. Another one takes it for an error that
/// a leader is replaced while it changes the members; the next one goes on with it.
const NOISE: &str = "openraft=error,openraft::raft::raft_inner=off,openraft::raft::stream_append=off,openraft::raft::api::management=off,openraft::core::heartbeat::worker=off,openraft::progress::entry=warn,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn,rustls=warn,axum=warn";

/// Starts logging. The filter has been given by the user, so a wrong one is told.
pub(crate) fn start(options: &LogOptions) -> Result<(), String> {
    let filter = filter(options.filter.as_deref())?;
    let colours = matches!(options.format, LogFormat::Text) && io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine {
            to: io::stderr(),
            colours,
        });
    let result = match options.format {
        LogFormat::Text => builder.with_ansi(colours).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    result.map_err(|error| format!("cannot start logging: {error}"))
}

/// Writes each event as one line, whatever peers have put into it: nobody can write lines that look like the node's.
struct OneLine<W> {
    to: W,
    /// Escapes belong to colours; those of peers the formatter has seen to.
    colours: bool,
}

impl<W> OneLine<W> {
    fn is_foreign(&self, byte: u8) -> bool {
        byte.is_ascii_control() && byte != b'\t' && !(self.colours && byte == 0x1b)
    }
}

impl<W: Write> Write for OneLine<W> {
    /// An event comes as a whole, with the end of its line.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if !text.iter().any(|byte| self.is_foreign(*byte)) {
            self.to.write_all(event)?;
            return Ok(event.len());
        }
        let mut line = Vec::with_capacity(event.len() + 16);
        for byte in text {
            if self.is_foreign(*byte) {
                line.extend(byte.escape_ascii());
            } else {
                line.push(*byte);
            }
        }
        line.extend_from_slice(event.get(text.len()..).unwrap_or_default());
        self.to.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
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

    #[test]
    fn an_event_is_one_line() {
        for (event, line) in [
            ("plain: é\n", "plain: é\n"),
            ("two\nlines\r\n", "two\\nlines\\r\n"),
            ("a bell \x07, no end", "a bell \\x07, no end"),
            ("\x1b[2K", "\\x1b[2K"),
        ] {
            let mut written = OneLine {
                to: Vec::new(),
                colours: false,
            };
            written.write_all(event.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written.to).unwrap(), line);
        }
    }
}
