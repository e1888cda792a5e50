//! Topic exchanges: binding keys are patterns of words; `*` is one word, `#` any number of words.
//!
//! The patterns form a trie. A routing key is matched by walking all fitting paths at once, word by
//! word, each node at most once per word: the work is bounded by words times trie nodes whatever
//! the patterns, where trying the ways to stretch `#` one after another is exponential.

use super::slab::Slab;
use super::targets::{Matches, Target, TargetSet};
use super::{Effort, TooCostly};
use hashbrown::HashMap;
use smallvec::SmallVec;

/// A trie of patterns.
#[derive(Debug)]
pub(crate) struct TopicTrie {
    nodes: Slab<Node>,
    root: u32,
}

/// Patterns that are alike up to here.
#[derive(Debug, Default)]
struct Node {
    /// Next words. Boxed, because most nodes are ends.
    words: Option<Box<HashMap<Box<str>, u32, foldhash::fast::RandomState>>>,
    /// Next is `*`.
    star: Option<u32>,
    /// Next is `#`.
    hash: Option<u32>,
    /// This node is the end of a `#`: it fits further words without moving.
    is_hash: bool,
    /// Bindings whose pattern ends here.
    targets: TargetSet,
}

impl Node {
    fn is_useless(&self) -> bool {
        self.words.is_none()
            && self.star.is_none()
            && self.hash.is_none()
            && self.targets.is_empty()
    }

    fn next(&self, word: &str) -> Option<u32> {
        match word {
            "*" => self.star,
            "#" => self.hash,
            word => self.words.as_ref()?.get(word).copied(),
        }
    }

    fn set_next(&mut self, word: &str, node: u32) {
        match word {
            "*" => self.star = Some(node),
            "#" => self.hash = Some(node),
            word => {
                self.words.get_or_insert_default().insert(word.into(), node);
            }
        }
    }

    fn clear_next(&mut self, word: &str) {
        match word {
            "*" => self.star = None,
            "#" => self.hash = None,
            word => {
                if let Some(words) = &mut self.words {
                    words.remove(word);
                    if words.is_empty() {
                        self.words = None;
                    }
                }
            }
        }
    }
}

/// Nodes reached by the words read so far.
type States = SmallVec<[u32; 32]>;

impl Default for TopicTrie {
    fn default() -> Self {
        let mut nodes = Slab::default();
        let root = nodes.insert(Node::default());
        Self { nodes, root }
    }
}

impl TopicTrie {
    pub(crate) fn add(&mut self, pattern: &str, target: Target) {
        let mut at = self.root;
        for word in pattern_words(pattern) {
            at = match self.nodes.get(at).and_then(|node| node.next(word)) {
                Some(next) => next,
                None => {
                    let next = self.nodes.insert(Node {
                        is_hash: word == "#",
                        ..Node::default()
                    });
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.set_next(word, next);
                    }
                    next
                }
            };
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.targets.add(target);
        }
    }

    pub(crate) fn remove(&mut self, pattern: &str, target: Target) {
        let mut path: SmallVec<[(u32, &str); 16]> = SmallVec::new();
        let mut at = self.root;
        for word in pattern_words(pattern) {
            let Some(next) = self.nodes.get(at).and_then(|node| node.next(word)) else {
                return;
            };
            path.push((at, word));
            at = next;
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.targets.remove(target);
        }
        // Nodes that lead nowhere any more go, from the end upwards.
        while let Some((parent, word)) = path.pop() {
            if self.nodes.get(at).is_some_and(|node| !node.is_useless()) {
                return;
            }
            self.nodes.remove(at);
            if let Some(node) = self.nodes.get_mut(parent) {
                node.clear_next(word);
            }
            at = parent;
        }
    }

    pub(crate) fn matches(
        &self,
        key: &str,
        effort: &mut Effort,
        out: &mut Matches,
    ) -> Result<(), TooCostly> {
        let mut states = States::new();
        let mut next = States::new();
        let mut doubles = self.enter(self.root, &mut states);
        for word in words(key) {
            if doubles {
                // Only the ends of `#` can be reached on two ways at once.
                states.sort_unstable();
                states.dedup();
                doubles = false;
            }
            effort.take(states.len())?;
            next.clear();
            for node in states
                .iter()
                .filter_map(|&at| Some((at, self.nodes.get(at)?)))
            {
                let (at, node) = node;
                if node.is_hash {
                    next.push(at);
                    doubles = true;
                }
                if let Some(to) = node.words.as_ref().and_then(|words| words.get(word)) {
                    doubles |= self.enter(*to, &mut next);
                }
                if let Some(to) = node.star {
                    doubles |= self.enter(to, &mut next);
                }
            }
            std::mem::swap(&mut states, &mut next);
            if states.is_empty() {
                return Ok(());
            }
        }
        for node in states.iter().filter_map(|&at| self.nodes.get(at)) {
            node.targets.collect(effort, out)?;
        }
        Ok(())
    }

    /// Adds `at`, and the `#` behind it, which fits no word at all. Patterns never have two `#` in a
    /// row, so there is nothing behind that one. Returns whether a `#` was entered.
    fn enter(&self, at: u32, states: &mut States) -> bool {
        states.push(at);
        let hash = self.nodes.get(at).and_then(|node| node.hash);
        states.extend(hash);
        hash.is_some()
    }

    #[cfg(test)]
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.iter().count()
    }
}

/// The words of a routing key; the empty key has none.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

/// The words of a pattern. `#` after `#` adds nothing and is left out.
fn pattern_words(pattern: &str) -> impl Iterator<Item = &str> {
    let mut after_hash = false;
    words(pattern).filter(move |word| {
        let skip = after_hash && *word == "#";
        after_hash = *word == "#";
        !skip
    })
}

/// Whether `pattern` matches `key`, word by word.
#[cfg(test)]
pub(crate) fn topic_matches(pattern: &str, key: &str) -> bool {
    let mut trie = TopicTrie::default();
    trie.add(pattern, Target::Queue(0));
    let mut out = Matches::new();
    trie.matches(key, &mut Effort::at_once(), &mut out)
        .expect("a short pattern");
    !out.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn topic_patterns() {
        for (pattern, key, expected) in [
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders.eu.new", false),
            ("orders.#", "orders", true), // '#' also stands for no word at all
            ("#", "", true),
            ("", "", true),
            ("*", "", false),
            ("#.#", "", true),
            ("#.#", "a.b.c", true),
            ("a.*.b", "a..b", true),
            ("a.*", "a.", true),
            ("a", "a.", false),
            ("*.*", ".", true),
            ("#.b", "b", true),
            ("#.b.#", "a.b", true),
            ("#.b.#", "a.c", false),
            ("*.#", "", false),
            ("#.*", "a", true),
            ("*", "*", true),
            ("a.#.#.b", "a.b", true),
            ("#.a.#.a.#", "a", false),
            ("#.a.#.a.#", "x.a.a", true),
        ] {
            assert_eq!(
                topic_matches(pattern, key),
                expected,
                "{pattern:?} against {key:?}"
            );
        }
    }

    /// The definition, word by word.
    fn naive(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern.split_first(), key.split_first()) {
            (None, None) => true,
            (Some((&"#", rest)), _) => {
                naive(rest, key)
                    || key
                        .split_first()
                        .is_some_and(|(_, key)| naive(pattern, key))
            }
            (Some((&"*", rest)), Some((_, key))) => naive(rest, key),
            (Some((word, rest)), Some((first, key))) => word == first && naive(rest, key),
            _ => false,
        }
    }

    fn pattern() -> impl Strategy<Value = String> {
        vec(prop::sample::select(vec!["a", "b", "", "*", "#"]), 0..6).prop_map(|w| w.join("."))
    }

    fn key() -> impl Strategy<Value = String> {
        vec(prop::sample::select(vec!["a", "b", ""]), 0..7).prop_map(|w| w.join("."))
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(
            patterns in vec(pattern(), 0..12), removed in vec(any::<bool>(), 12), key in key()
        ) {
            let mut trie = TopicTrie::default();
            for (number, pattern) in patterns.iter().enumerate() {
                trie.add(pattern, Target::Queue(number as u32));
            }
            for (number, pattern) in patterns.iter().enumerate().filter(|(n, _)| removed[*n]) {
                trie.remove(pattern, Target::Queue(number as u32));
            }
            let mut found = Matches::new();
            trie.matches(&key, &mut Effort::at_once(), &mut found).expect("short patterns");
            found.sort_unstable();
            found.dedup();
            let key_words: Vec<_> = words(&key).collect();
            let expected: Vec<_> = patterns.iter().enumerate()
                .filter(|(n, p)| !removed[*n] && naive(&words(p).collect::<Vec<_>>(), &key_words))
                .map(|(n, _)| Target::Queue(n as u32))
                .collect();
            prop_assert_eq!(&found[..], &expected[..]);
            for (number, pattern) in patterns.iter().enumerate().filter(|(n, _)| !removed[*n]) {
                trie.remove(pattern, Target::Queue(number as u32));
            }
            prop_assert_eq!(trie.node_count(), 1);
        }
    }

    #[test]
    fn hostile_patterns_cost_little() {
        let mut trie = TopicTrie::default();
        for number in 0..60u32 {
            let mut words = vec!["#.a"; 60];
            words.insert(number as usize, "#.b");
            trie.add(&words.join("."), Target::Queue(number));
        }
        let key = vec!["a"; 127].join(".");
        let mut found = Matches::new();
        trie.matches(&key, &mut Effort::at_once(), &mut found)
            .expect("it does not cost much");
        assert!(found.is_empty());
    }
}
