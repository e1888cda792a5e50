//! A command line as RabbitMQ's tools take it: options before, between and after the words, `--name value`,
//! `--name=value`, `--flag` and `--no-flag`, short names for some.

use std::collections::BTreeMap;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing; it is on, or off as `--no-…`.
    Flag,
    /// A text.
    Text,
    /// A whole number.
    Number,
}

/// An option: its name without dashes, its letter, what it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switch {
    name: &'static str,
    letter: Option<char>,
    kind: Kind,
}

/// `--name`
pub(super) const fn flag(name: &'static str) -> Switch {
    Switch {
        name,
        letter: None,
        kind: Kind::Flag,
    }
}

/// `--name TEXT`
pub(super) const fn text(name: &'static str) -> Switch {
    Switch {
        name,
        letter: None,
        kind: Kind::Text,
    }
}

/// `--name N`
pub(super) const fn number(name: &'static str) -> Switch {
    Switch {
        name,
        letter: None,
        kind: Kind::Number,
    }
}

impl Switch {
    /// The same, under a letter too.
    pub(super) const fn or(mut self, letter: char) -> Self {
        self.letter = Some(letter);
        self
    }
}

/// What every command takes. Some mean nothing here: they name a node, or where Erlang's files are.
pub(super) const COMMON: &[Switch] = &[
    text("node").or('n'),
    flag("quiet").or('q'),
    flag("silent").or('s'),
    flag("dry-run"),
    text("vhost").or('p'),
    number("timeout").or('t'),
    flag("longnames").or('l'),
    text("formatter"),
    text("printer"),
    text("file"),
    text("script-name"),
    text("rabbitmq-home"),
    text("mnesia-dir"),
    text("plugins-dir"),
    text("enabled-plugins-file"),
    text("aliases-file"),
    text("erlang-cookie"),
    flag("help").or('?'),
    flag("print-stacktrace"),
    flag("table-headers"),
    flag("pad-to-header"),
];

/// An option's value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Flag(bool),
    Text(String),
    Number(i64),
}

/// A command line taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What is no option.
    pub(super) words: Vec<String>,
    /// Options that are not known or lack their value, with the value they came with.
    pub(super) invalid: Vec<(String, String)>,
    given: BTreeMap<&'static str, Given>,
}

impl Parsed {
    /// Whether the flag is on; `otherwise` where it is not given.
    pub(super) fn flag_or(&self, name: &str, otherwise: bool) -> bool {
        match self.given.get(name) {
            Some(Given::Flag(on)) => *on,
            _ => otherwise,
        }
    }

    /// Whether the flag is on.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The option's text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.given.get(name) {
            Some(Given::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The option's number.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.given.get(name) {
            Some(Given::Number(number)) => Some(*number),
            _ => None,
        }
    }
}

/// Takes `arguments` apart; `own` are the command's options, beside those of all commands.
pub(super) fn parse(arguments: &[String], own: &[Switch]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = arguments.iter().map(String::as_str).peekable();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.words.extend(rest.map(str::to_owned));
            break;
        }
        let Some((name, inline)) = option(argument) else {
            parsed.words.push(argument.to_owned());
            continue;
        };
        let Some(found) = find(name, own) else {
            let letters = name.trim_start_matches('-');
            // Flags may stand together: `-qs`.
            let flags: Option<Vec<&Switch>> = letters
                .chars()
                .map(|letter| by_letter(letter, own).filter(|switch| switch.kind == Kind::Flag))
                .collect();
            match flags {
                Some(flags) if !name.starts_with("--") && inline.is_none() => {
                    for switch in flags {
                        parsed.given.insert(switch.name, Given::Flag(true));
                    }
                }
                _ => parsed.refuse(name, inline),
            }
            continue;
        };
        let (switch, on) = found;
        let value = match switch.kind {
            Kind::Flag => match (inline, on) {
                (None, on) => Some(Given::Flag(on)),
                (Some("true"), true) => Some(Given::Flag(true)),
                (Some("false"), true) => Some(Given::Flag(false)),
                _ => None,
            },
            Kind::Text | Kind::Number => {
                let raw = inline.or_else(|| rest.next_if(|next| option(next).is_none()));
                match (raw, switch.kind) {
                    (Some(raw), Kind::Number) => match raw.parse() {
                        Ok(number) => Some(Given::Number(number)),
                        Err(_) => {
                            parsed.refuse(name, Some(raw));
                            continue;
                        }
                    },
                    (Some(raw), _) => Some(Given::Text(raw.to_owned())),
                    (None, _) => None,
                }
            }
        };
        match value {
            Some(value) => {
                parsed.given.insert(switch.name, value);
            }
            None => parsed.refuse(name, inline),
        }
    }
    parsed
}

impl Parsed {
    fn refuse(&mut self, name: &str, value: Option<&str>) {
        let value = value.unwrap_or_default().to_owned();
        self.invalid.push((name.to_owned(), value));
    }
}

/// An option's name with its dashes, and what stands behind `=`. A dash alone and negative numbers are words.
fn option(argument: &str) -> Option<(&str, Option<&str>)> {
    let bare = argument.strip_prefix('-')?;
    if bare.is_empty() || bare.starts_with(' ') || bare.parse::<f64>().is_ok() {
        return None;
    }
    Some(match argument.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (argument, None),
    })
}

/// The option of that name, and whether it is meant to be on.
fn find(name: &str, own: &[Switch]) -> Option<(Switch, bool)> {
    let by_name = |wanted: &str| {
        let mut all = own.iter().chain(COMMON);
        all.find(|switch| switch.name == wanted).copied()
    };
    match name.strip_prefix("--") {
        Some(long) => by_name(long).map(|switch| (switch, true)).or_else(|| {
            by_name(long.strip_prefix("no-")?)
                .filter(|switch| switch.kind == Kind::Flag)
                .map(|switch| (switch, false))
        }),
        None => {
            let mut letters = name.chars().skip(1);
            let letter = letters.next()?;
            match letters.next() {
                None => by_letter(letter, own).map(|switch| (*switch, true)),
                Some(_) => None,
            }
        }
    }
}

fn by_letter(letter: char, own: &[Switch]) -> Option<&Switch> {
    let mut all = own.iter().chain(COMMON);
    all.find(|switch| switch.letter == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Parsed {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&arguments, &[number("priority"), flag("if-empty").or('e')])
    }

    #[test]
    fn words_and_options_in_any_order() {
        for line in [
            "list_queues -p v -q name messages",
            "-q -p v list_queues name messages",
            "-p=v list_queues name --quiet messages",
            "list_queues name messages --vhost v -q",
            "list_queues name messages --vhost=v -q",
        ] {
            let parsed = parsed(line);
            assert_eq!(parsed.words, ["list_queues", "name", "messages"], "{line}");
            assert_eq!(parsed.text("vhost"), Some("v"), "{line}");
            assert!(parsed.flag("quiet") && parsed.invalid.is_empty(), "{line}");
        }
    }

    #[test]
    fn kinds() {
        let all = parsed("x --priority -3 --no-table-headers -e -qs -t 5 - -1 -- --rest");
        assert_eq!(all.words, ["x", "-", "-1", "--rest"]);
        assert_eq!(all.number("priority"), Some(-3));
        assert_eq!(all.number("timeout"), Some(5));
        assert!(!all.flag_or("table-headers", true));
        assert!(all.flag("if-empty") && all.flag("quiet") && all.flag("silent"));
        assert!(all.invalid.is_empty());
        let values = parsed("--online=true --longnames=false x");
        assert_eq!(values.invalid, [("--online".to_owned(), "true".to_owned())]);
        assert!(!values.flag("longnames"));
    }

    #[test]
    fn what_is_not_known_is_told() {
        for (line, name, value) in [
            ("x --bogus", "--bogus", ""),
            ("x --priority high", "--priority", "high"),
            ("x -p", "-p", ""),
            ("x -p --quiet", "-p", ""),
            ("x -t=1s", "-t", "1s"),
            ("x --no-priority", "--no-priority", ""),
            ("x -qz", "-qz", ""),
            ("x --quiet=perhaps", "--quiet", "perhaps"),
        ] {
            let parsed = parsed(line);
            let expected = [(name.to_owned(), value.to_owned())];
            assert_eq!(parsed.invalid, expected, "{line}");
        }
    }
}
