//! Holds the imports between crates that are allowed against what Cargo sees.
//!
//! A new arrow between crates, or IO in a pure crate, is a decision: change the tables here, and
//! "Crate by crate" in ARCHITECTURE.md in the same commit.

#![allow(
    clippy::expect_used,
    reason = "a test may stop where its surroundings are broken"
)]

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};

/// Each crate of ours and the crates of ours that it may import.
const ARROWS: &[(&str, &[&str])] = &[
    ("amqp-codec", &[]),
    ("amqp-connection", &["amqp-codec"]),
    ("broker-model", &["amqp-codec"]),
    ("cluster-proto", &[]),
    // In the place of a dependency of openraft.
    ("base2histogram", &[]),
    ("shovel", &["amqp-codec"]),
    ("storage", &[]),
    ("consensus", &["storage", "cluster-proto"]),
    (
        "node",
        &[
            "amqp-codec",
            "amqp-connection",
            "broker-model",
            "cluster-proto",
            "storage",
            "consensus",
            "shovel",
        ],
    ),
    ("management", &["node"]),
    ("cli", &["node", "management"]),
    ("bench", &["amqp-codec"]),
    (
        "testkit",
        &[
            "amqp-codec",
            "amqp-connection",
            "broker-model",
            "cluster-proto",
            "storage",
            "consensus",
            "shovel",
            "node",
            "management",
            "cli",
            "bench",
        ],
    ),
];

/// Crates without sockets, disks, clocks and randomness.
const PURE: &[&str] = &["amqp-codec", "amqp-connection", "broker-model"];

/// What would bring them in, directly or through others.
const IMPURE: &[&str] = &[
    "axum",
    "chrono",
    "fastrand",
    "getrandom",
    "hyper",
    "mio",
    "openraft",
    "rand",
    "rocksdb",
    "rustls",
    "socket2",
    "time",
    "tokio",
    "tonic",
    "ureq",
];

fn metadata() -> Metadata {
    // Of the clone in which it is run, which may not be the one in which it was compiled.
    let home = std::env::var("CARGO_MANIFEST_DIR").expect("run by cargo");
    let manifest = format!("{home}/../../Cargo.toml");
    // One platform: those of others need not be downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options(vec![
            "--locked".into(),
            "--filter-platform".into(),
            platform,
        ])
        .exec()
        .expect("cargo metadata")
}

#[test]
fn arrows_between_crates() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    assert_eq!(
        ours,
        table.keys().copied().collect(),
        "every crate stands in the table"
    );

    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let allowed = table
            .get(package.name.as_str())
            .copied()
            .unwrap_or_default();
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            // Tests may use any of ours: cargo itself refuses cycles that matter.
            let counts = ours.contains(name) && dependency.kind != DependencyKind::Development;
            if counts && !allowed.contains(&name) {
                wrong.push(format!("{} -> {name}", package.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that the table does not have: {wrong:?}"
    );
}

#[test]
fn pure_crates_stay_pure() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let names: BTreeMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|p| (&p.id, p.name.as_str()))
        .collect();
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|dep| {
                    dep.dep_kinds
                        .iter()
                        .any(|kind| kind.kind == DependencyKind::Normal)
                })
                .map(|dep| &dep.pkg)
                .collect();
            (&node.id, normal)
        })
        .collect();

    let mut wrong = Vec::new();
    for package in metadata
        .workspace_packages()
        .iter()
        .filter(|p| PURE.contains(&p.name.as_str()))
    {
        let mut seen = BTreeSet::new();
        let mut open = vec![&package.id];
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(edges.get(id).into_iter().flatten());
            }
        }
        let reached = seen
            .iter()
            .filter_map(|id| names.get(id))
            .filter(|name| IMPURE.contains(name));
        wrong.extend(reached.map(|name| format!("{} reaches {name}", package.name)));
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
