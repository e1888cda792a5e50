//! Where options come from: file, environment, flags, the later winning over the earlier.
//!
//! All three are written as flags and read by the one parser, so that a value means the same
//! everywhere, and a wrong one is refused with the name of its source.

use super::nearest::nearest;
use super::nested;
use super::options::Options;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};
use std::path::{Path, PathBuf};

/// Names under which RabbitMQ's container image takes the same values. Ours win.
const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("RABBITMQ_DEFAULT_USER", "default-user"),
    ("RABBITMQ_DEFAULT_PASS", "default-pass"),
    ("RABBITMQ_DEFAULT_PASS_FILE", "default-pass-file"),
    ("RABBITMQ_DEFAULT_VHOST", "default-vhost"),
];

/// Of each pair at most one may be given in one place.
const EITHER_OR: &[(&str, &str)] = &[
    ("cluster-secret", "cluster-secret-file"),
    ("default-pass", "default-pass-file"),
];

/// Flags that make no sense anywhere else.
const FLAG_ONLY: &[&str] = &["config", "check-config", "help"];

/// One option as it was found: flag name, value, and where it stood.
struct Given {
    flag: String,
    value: String,
    source: String,
}

/// Adds the variable's name to the help of every option.
pub(crate) fn with_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        let flag = arg.get_long().unwrap_or_default().to_owned();
        if flag.is_empty() || matches!(flag.as_str(), "check-config" | "help") {
            return arg;
        }
        let note =
            |help: &clap::builder::StyledStr| format!("{help} [env: {}]", variable_of(&flag));
        match arg.get_help().map(note) {
            Some(help) => arg.help(help),
            None => arg,
        }
    })
}

/// Completes what the flags say from environment and file.
pub(crate) fn complete(
    flags: Options,
    flag_arguments: &[String],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Options, String> {
    let layers = [
        from_file(flags.config.clone(), environment)?,
        read_environment(environment),
    ];
    let mut arguments: Vec<String> = vec!["serve".into()];
    for layer in &layers {
        check(layer)?;
        arguments.extend(
            layer
                .iter()
                .map(|given| format!("--{}={}", given.flag, given.value)),
        );
    }
    arguments.extend(flag_arguments.iter().cloned());
    parse(&arguments).map_err(|error| plain(&error))
}

/// What file and environment of this process say of a node that runs with the same, for the tools beside it: the value of a
/// flag, and of two that exclude each other the one that counts.
pub(crate) fn setting(
    flags: &[&str],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<(String, String)>, String> {
    let layers = [read_environment(environment), from_file(None, environment)?];
    let found = layers.into_iter().find_map(|layer| {
        layer
            .into_iter()
            .find(|given| flags.contains(&&*given.flag))
    });
    Ok(found.map(|given| (given.flag, given.value)))
}

fn from_file(
    flag: Option<PathBuf>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Given>, String> {
    let variable = || environment("WARREN_CONFIG").filter(|file| !file.is_empty());
    match flag.or_else(|| variable().map(PathBuf::from)) {
        Some(path) => read_file(&path),
        None => Ok(Vec::new()),
    }
}

/// The variables of all options.
pub(super) fn variables() -> Vec<String> {
    settable()
        .iter()
        .filter_map(|arg| arg.get_long())
        .map(variable_of)
        .collect()
}

/// Reads arguments without environment and file; the first one is the command's name.
pub(crate) fn parse(arguments: &[String]) -> Result<Options, clap::Error> {
    Options::from_arg_matches(&parser().try_get_matches_from(arguments)?)
}

fn parser() -> Command {
    // Later ones win, which is what makes layers out of one list of arguments.
    Options::augment_args(Command::new("serve")).args_override_self(true)
}

fn read_environment(environment: &dyn Fn(&str) -> Option<String>) -> Vec<Given> {
    let given = |flag: &str, variable: &str| {
        // An empty variable is how compose files pass "not set".
        environment(variable)
            .filter(|value| !value.is_empty())
            .map(|value| Given {
                flag: flag.to_owned(),
                value,
                source: variable.to_owned(),
            })
    };
    let foreign = FOREIGN_NAMES.iter().filter_map(|(variable, flag)| {
        let stem = flag.trim_end_matches("-file");
        let ours_given = [stem.to_owned(), format!("{stem}-file")]
            .iter()
            .any(|flag| environment(&variable_of(flag)).is_some_and(|value| !value.is_empty()));
        given(flag, variable).filter(|_| !ours_given)
    });
    let ours = settable().into_iter().filter_map(|arg| {
        let flag = arg.get_long()?.to_owned();
        given(&flag, &variable_of(&flag))
    });
    foreign.chain(ours).collect()
}

fn read_file(path: &Path) -> Result<Vec<Given>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!(
            "cannot read the configuration file {}: {error}",
            path.display()
        )
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        format!("{}: {}", path.display(), error.to_string().trim_end())
    })?;
    let known: Vec<String> = settable()
        .iter()
        .filter_map(|arg| arg.get_long())
        .map(|flag| flag.replace('-', "_"))
        .collect();
    nested::flat(table)
        .into_iter()
        .map(|(key, value)| {
            let source = format!("{key} in {}", path.display());
            if !known.contains(&key) {
                let hint = nearest(&key, &known).map(|name| format!("; did you mean {name}?")).unwrap_or_default();
                return Err(format!("unknown key {source}{hint}"));
            }
            let value = as_argument(&value).ok_or_else(|| {
                format!("{source}: not a kind of value that is understood: use text, a number, true or false, or a list")
            })?;
            Ok(Given { flag: key.replace('_', "-"), value, source })
        })
        .collect()
}

/// A TOML value as one would write it after a flag.
fn as_argument(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        // An empty list is a statement, unlike an empty text.
        toml::Value::Array(items) if items.is_empty() => Some("none".into()),
        toml::Value::Array(items) => Some(
            items
                .iter()
                .map(as_argument)
                .collect::<Option<Vec<_>>>()?
                .join(","),
        ),
        // peers = { 1 = "one:25672" }
        toml::Value::Table(table) => {
            let pair = |(key, value): (&String, &toml::Value)| {
                Some(format!("{key}={}", as_argument(value)?))
            };
            Some(
                table
                    .iter()
                    .map(pair)
                    .collect::<Option<Vec<_>>>()?
                    .join(","),
            )
        }
        toml::Value::Datetime(_) => None,
    }
}

/// Reads each value by itself, so that a wrong one is reported with its source.
fn check(layer: &[Given]) -> Result<(), String> {
    for given in layer {
        parse(&["serve".into(), format!("--{}={}", given.flag, given.value)])
            .map_err(|error| format!("{}: {}", given.source, plain(&error)))?;
    }
    for (one, other) in EITHER_OR {
        let source = |flag: &str| {
            layer
                .iter()
                .find(|given| given.flag == flag)
                .map(|given| &given.source)
        };
        if let (Some(one), Some(other)) = (source(one), source(other)) {
            return Err(format!("{one} and {other} are both set: set one of them"));
        }
    }
    Ok(())
}

fn settable() -> Vec<Arg> {
    parser()
        .get_arguments()
        .filter(|arg| {
            arg.get_long()
                .is_some_and(|flag| !FLAG_ONLY.contains(&flag))
        })
        .filter(|arg| matches!(arg.get_action(), ArgAction::Set))
        .cloned()
        .collect()
}

fn variable_of(flag: &str) -> String {
    format!("WARREN_{}", flag.replace('-', "_").to_uppercase())
}

/// clap's message without the usage lines, which speak of flags even where none was given.
fn plain(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::ValueValidation || error.kind() == ErrorKind::InvalidValue {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        let line = line.strip_prefix("error: ").unwrap_or(line);
        return match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) if !values.is_empty() => {
                format!("{line}: use {}", values.join(" or "))
            }
            _ => line.to_owned(),
        };
    }
    error
        .to_string()
        .trim_start_matches("error: ")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests;
