//! Regular expressions of policies and permissions, compiled once.
//!
//! Most are matched in linear time. Those with look-around, back-references or atomic groups, which
//! RabbitMQ's expressions may have, need a matcher that goes back; it gives up after a bounded number
//! of steps. The number of steps follows from expression and name alone, so replicas agree.

use super::command::Name;
use super::error::CatalogError;
use regex::{Regex, RegexBuilder};

/// Memory that one compiled expression may take. Expressions come from operators, but a mistake in
/// one must not take the node down.
const COMPILED_MAX: usize = 1 << 20;
/// Steps back in one match, half a millisecond of them. Beyond that nothing matches: a policy is matched against all queues of
/// its virtual host while the whole node waits.
const BACKTRACK_MAX: usize = 10_000;
/// Instructions of one compiled expression of the kind that goes back.
const PROGRAM_MAX: usize = 1 << 14;

/// A compiled expression: an unanchored search.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: Name,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// The empty name only.
    Empty,
    Everything,
    Linear(Box<Regex>),
    Backtracking(Box<fancy_regex::Regex>),
    /// It does not compile (here): it matches nothing.
    Broken,
}

impl Pattern {
    /// Compiles `source`; one that does not compile matches nothing. (It has been checked when it
    /// was proposed; that this version of the program cannot read it must not make replicas differ.)
    #[must_use]
    pub fn new(source: Name) -> Self {
        let matcher = match &*source {
            "" => Matcher::Empty,
            ".*" | "^.*" | ".*$" | "^.*$" => Matcher::Everything,
            other => compile(other).unwrap_or(Matcher::Broken),
        };
        Self { source, matcher }
    }

    /// As [`Self::new`] for a policy: there an empty expression is found in every name. (In a permission it gives
    /// nothing.)
    #[must_use]
    pub fn of_policy(source: Name) -> Self {
        if source.is_empty() {
            let matcher = Matcher::Everything;
            return Self { source, matcher };
        }
        Self::new(source)
    }

    /// Whether `source` is a usable expression.
    pub fn check(source: &str) -> Result<(), CatalogError> {
        compile(source).map(drop).map_err(|error| {
            CatalogError::Invalid(format!("invalid regular expression '{source}': {error}").into())
        })
    }

    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Empty => name.is_empty(),
            Matcher::Everything => true,
            Matcher::Linear(regex) => regex.is_match(name),
            // Its only error is that it took too many steps.
            Matcher::Backtracking(regex) => regex.is_match(name).unwrap_or(false),
            Matcher::Broken => false,
        }
    }

    /// Whether a match with this name takes more steps than it may.
    #[must_use]
    pub fn gives_up_on(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Backtracking(regex) => regex.is_match(name).is_err(),
            _ => false,
        }
    }

    /// Steps of an [`Effort`](crate::routing::Effort) that a match may take.
    pub(crate) const fn cost(&self) -> usize {
        match &self.matcher {
            Matcher::Empty | Matcher::Everything | Matcher::Broken => 0,
            Matcher::Linear(_) => 20,
            Matcher::Backtracking(_) => BACKTRACK_MAX,
        }
    }

    /// As written.
    #[must_use]
    pub fn source(&self) -> &Name {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

/// In linear time if that is possible; the error is the text for operators.
fn compile(source: &str) -> Result<Matcher, String> {
    let linear = RegexBuilder::new(source)
        .size_limit(COMPILED_MAX)
        .dfa_size_limit(COMPILED_MAX)
        .build();
    match linear {
        Ok(regex) => return Ok(Matcher::Linear(Box::new(regex))),
        // Not known there; the other kind of matcher knows more.
        Err(regex::Error::Syntax(_)) => {}
        Err(error) => return Err(error.to_string()),
    }
    fancy_regex::RegexBuilder::new(source)
        .backtrack_limit(BACKTRACK_MAX)
        .max_prog_size(PROGRAM_MAX)
        .delegate_size_limit(COMPILED_MAX)
        .delegate_dfa_size_limit(COMPILED_MAX)
        .build()
        .map(|regex| Matcher::Backtracking(Box::new(regex)))
        .map_err(|error| error.to_string())
}
