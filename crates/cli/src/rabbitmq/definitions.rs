//! Definitions: everything but messages, as JSON.

use super::arguments::{flag, text};
use super::command::{Answer, CTL, Call, Command, command};
use super::format::Output;
use super::trouble::{DATA, Trouble};
use serde_json::Value;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

pub(super) const COMMANDS: &[Command] = &[
    command(
        "export_definitions",
        CTL,
        "<file_path | \"-\"> [--format <json | erlang>]",
        (1, 1),
        |call| match call.word(0) {
            "-" => String::new(),
            file => format!("Exporting definitions in JSON to a file at \"{file}\" ..."),
        },
        export,
    )
    .with(&[text("format")]),
    command(
        "import_definitions",
        CTL,
        "<file_path | \"-\"> [--format <json | erlang>]",
        (0, 1),
        |call| match call.word(0) {
            "" => "Importing definitions in JSON from standard input ...".into(),
            "-" => String::new(),
            file => format!("Importing definitions in JSON from a file at \"{file}\" ..."),
        },
        import,
    )
    .with(&[text("format"), flag("skip-if-unchanged")]),
];

/// Erlang's terms are not for others.
fn check_format(call: &Call) -> Result<(), Trouble> {
    match call
        .options
        .text("format")
        .map(str::to_lowercase)
        .as_deref()
    {
        None | Some("json") => Ok(()),
        Some("erlang") => {
            Err(call.misused(DATA, "Bad argument: Warren reads and writes JSON only"))
        }
        Some(_) => Err(call.misused(DATA, "Bad argument: Format should be either json or erlang")),
    }
}

fn export(call: &Call) -> Answer {
    check_format(call)?;
    let file = call.word(0);
    let directory = Path::new(file)
        .parent()
        .filter(|path| !path.as_os_str().is_empty());
    if let Some(directory) = directory.filter(|path| !path.exists()) {
        let text = format!(
            "Bad argument: Directory {} does not exist",
            directory.display()
        );
        return Err(call.misused(DATA, &text));
    }
    let definitions = call.client.get("/api/definitions")?;
    if file == "-" {
        return Ok(Output::Both(definitions.to_string(), definitions));
    }
    fs::write(file, format!("{definitions}\n")).map_err(|error| {
        Trouble::error(DATA, format!("Could not write to file {file}: {error}"))
    })?;
    Ok(Output::Silent)
}

fn import(call: &Call) -> Answer {
    check_format(call)?;
    let file = call.word(0);
    let text = if matches!(file, "" | "-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        text
    } else {
        if !Path::new(file).exists() {
            let text = format!("Bad argument: File {file} does not exist");
            return Err(call.misused(DATA, &text));
        }
        fs::read_to_string(file).map_err(|error| {
            Trouble::error(DATA, format!("Could not read from file {file}: {error}"))
        })?
    };
    if text.trim().is_empty() {
        let text = match file {
            "" | "-" => "Definitions are not provided via standard input".into(),
            file => format!("File {file} is zero-sized"),
        };
        return Err(Trouble::error(DATA, text));
    }
    let definitions: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            let text = format!("Failed to deserialise input (format: JSON) (error: {error})");
            Trouble::error(DATA, text)
        })?;
    let report = call
        .client
        .post("/api/definitions?report=true", &definitions)?;
    let failed = report.get("failed").and_then(Value::as_array);
    let failed: Vec<&str> = failed
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !failed.is_empty() {
        let text = format!(
            "{} definitions could not be imported:\n{}",
            failed.len(),
            failed.join("\n")
        );
        return Err(Trouble::refused(text));
    }
    if call.wants_json() || call.is_quiet() {
        return Ok(Output::Done);
    }
    // Scripts may look for these words. It is done when this is said.
    Ok(Output::Text(
        "Successfully started definition import. This process is asynchronous and can take some time.".into(),
    ))
}
