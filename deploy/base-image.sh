#!/usr/bin/env bash
# Makes the base image that the Dockerfile names out of Debian's packages, for machines that reach
# packages but no container registry. Does nothing where an image of that name exists.
set -euo pipefail

image=${1:-debian:bookworm-slim}
suite=${image#debian:}
suite=${suite%-slim}

docker image inspect "$image" >/dev/null 2>&1 && exit 0
[ "$(id -u)" = 0 ] || { echo "error: making $image needs root (debootstrap): run this with sudo" >&2; exit 1; }
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi

# From where this machine has its own packages.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" 2>/dev/null \
    | grep -v security | head -n 1 || true)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
echo "Making $image from Debian's packages"
debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 \
    || { tail -n 20 "$root.log" >&2; exit 1; }
rm -rf "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* \
    "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/*
tar --numeric-owner -C "$root" -c . | docker import - "$image" >/dev/null
