#!/usr/bin/env bash
# Builds an image around the program that WARREN_BIN names, without a registry.
#
#   WARREN_BIN=target/release/warren deploy/test-image.sh warren:test
set -euo pipefail
cd "$(dirname "$0")/.."

image=${1:-warren:test}
bin=${WARREN_BIN:?set WARREN_BIN to the program that is to be tested}
deploy/base-image.sh
mkdir -p deploy/bin
# Debug data is most of a release build.
strip --strip-debug -o deploy/bin/warren "$bin"
docker build -q -f deploy/Dockerfile --target prebuilt -t "$image" .
