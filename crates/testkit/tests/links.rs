//! Holds the links of the documentation against the files and headings that there are, and the paths that it
//! names in backquotes against the tree.

#![allow(
    clippy::expect_used,
    reason = "a test may stop where its surroundings are broken"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders whose paths in backquotes are looked for.
const FOLDERS: &[&str] = &[
    "crates/", "deploy/", "docs/", "proto/", "scripts/", "tests/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace")
}

/// README and the like, `docs/` and that of the tests from outside.
fn pages(root: &Path) -> Vec<PathBuf> {
    let folders = [root.to_owned(), root.join("docs"), root.join("tests")];
    let entries = folders.iter().flat_map(|folder| {
        std::fs::read_dir(folder)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
    });
    let mut pages: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    pages.sort();
    pages
}

/// The lines outside of code blocks.
fn prose(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("a page");
    let mut code = false;
    let outside = |line: &&str| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    };
    text.lines().filter(outside).map(str::to_owned).collect()
}

/// What a heading is linked by: words in lower case with hyphens between them, without other signs.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|char| match char {
        ' ' => Some('-'),
        '-' | '_' => Some(char),
        _ => char.is_alphanumeric().then_some(char),
    });
    kept.flat_map(char::to_lowercase).collect()
}

/// Of all headings of a page. (A second one of the same name is not linked here.)
fn anchors(page: &Path) -> BTreeSet<String> {
    let heading = |line: &String| {
        let text = line.trim_start_matches('#');
        (text.len() < line.len() && text.starts_with(' ')).then(|| anchor(text))
    };
    prose(page).iter().filter_map(heading).collect()
}

/// What stands between `open` and `close`, each time.
fn between<'a>(line: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    line.split(open)
        .skip(1)
        .filter_map(move |rest| rest.split_once(close).map(|(inner, _)| inner))
}

/// Why a link leads nowhere.
fn broken(page: &Path, link: &str) -> Option<&'static str> {
    if link.contains("://") {
        return None;
    }
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => page.to_owned(),
        _ => page.parent().expect("a folder").join(file),
    };
    if !target.exists() {
        return Some("no such file");
    }
    let known = heading.is_empty() || anchors(&target).contains(heading);
    (!known).then_some("no such heading")
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages(&root()) {
        for line in prose(&page) {
            for link in between(&line, "](", ')') {
                seen += 1;
                let why = broken(&page, link);
                wrong.extend(why.map(|why| format!("{}: {link}: {why}", page.display())));
            }
        }
    }
    assert!(seen > 20, "the links are not found: {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn named_paths_exist() {
    let root = root();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages(&root) {
        for line in prose(&page) {
            // Every second part stands in backquotes.
            for name in line.split('`').skip(1).step_by(2) {
                let is_path = FOLDERS.iter().any(|folder| name.starts_with(folder));
                if !is_path || name.contains(|char: char| " *…{".contains(char)) {
                    continue;
                }
                seen += 1;
                if !root.join(name).exists() {
                    wrong.push(format!("{}: {name}", page.display()));
                }
            }
        }
    }
    assert!(seen > 3, "the paths are not found: {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
