#!/usr/bin/env bash
# Builds the programs as they are shipped (profile `dist`: link-time optimisation, no debug data).
#
# RocksDB takes a quarter of an hour per profile, and its C++ does not depend on cargo's profile, so
# the library of the release build is linked when there is one.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"

library=$(find "$target/release/build" -path '*/librocksdb-sys-*/out/librocksdb.a' -print -quit 2>/dev/null || true)
if [ -z "${ROCKSDB_LIB_DIR:-}" ] && [ -n "$library" ]; then
    ROCKSDB_LIB_DIR=$(dirname "$(realpath "$library")")
    export ROCKSDB_LIB_DIR ROCKSDB_STATIC=1
fi
cargo build --profile dist --locked -p cli -p bench
strip --strip-unneeded -o "$target/dist/warren.stripped" "$target/dist/warren"
mv "$target/dist/warren.stripped" "$target/dist/warren"
ls -lh "$target/dist/warren" "$target/dist/warren-bench"
