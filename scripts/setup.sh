#!/usr/bin/env bash
# Makes sure that what building ("build"), end-to-end tests ("python"), the client programs of other
# languages ("clients") and the tests of the web pages ("web") need is there.
#
# Missing Debian packages are installed when this runs as root; otherwise the command that installs
# them is printed. Where everything is there already, nothing is touched and nothing is printed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { packages+=("$@"); }
have() { command -v "$1" >/dev/null 2>&1; }

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

install_packages() {
    [ "${#packages[@]}" -gt 0 ] || return 0
    if ! have apt-get; then
        fail "please install what these Debian packages hold: ${packages[*]}"
    elif [ "$(id -u)" = 0 ]; then
        echo "Installing ${packages[*]}"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
    else
        fail "missing packages; run: sudo apt-get install -y ${packages[*]}"
    fi
    packages=()
}

# bindgen loads libclang at build time to read RocksDB's C header.
have_libclang() {
    local dirs=(/usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib)
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    have llvm-config && dirs+=("$(llvm-config --libdir)")
    local dir file
    for dir in "${dirs[@]}"; do
        for file in "$dir"/libclang.so* "$dir"/libclang-*.so*; do
            [ -e "$file" ] && return 0
        done
    done
    return 1
}

setup_build() {
    have cargo || fail "cargo is not in PATH: install Rust (https://rustup.rs), version $(rust_version) or later"
    have c++ || have g++ || need g++
    have cc || have gcc || need gcc libc6-dev
    # clang itself brings the headers that libclang needs (stddef.h and so on).
    have_libclang && have clang || need clang libclang-dev
    have make || need make
    install_packages
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        have rustup || fail "cargo $component is missing: install it with your Rust (Debian: rustfmt, rust-clippy)"
        rustup component add "${component/fmt/rustfmt}"
    done
}

rust_version() { sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml; }

setup_python() {
    local venv="${WARREN_VENV:-.venv}" requirements=tests/requirements.txt
    have python3 || need python3 python3-venv
    install_packages
    # A venv whose interpreter is gone (moved home, upgraded Python) is made anew.
    if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
        if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
            need python3-venv
            install_packages
        fi
        rm -rf "$venv"
        mkdir -p "$(dirname "$venv")"
        python3 -m venv "$venv"
    fi
    # Installs only when the list has changed.
    if ! cmp -s "$requirements" "$venv/installed.txt"; then
        echo "Installing the Python packages of $requirements"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$venv/installed.txt"
    fi
}

# What the programs of tests/clients/programs are written with. Their tests are left out without it, so
# nothing here is a reason to fail.
setup_clients() {
    have ruby && ruby -e "require 'bunny'" 2>/dev/null || need ruby-bunny
    have php && php -r "require 'PhpAmqpLib/autoload.php';" >/dev/null 2>&1 || need php-cli php-amqplib
    have go || need golang-go
    [ -d /usr/share/gocode/src/github.com/rabbitmq/amqp091-go ] || need golang-github-rabbitmq-amqp091-go-dev
    [ -e /usr/include/amqp_tcp_socket.h ] || need librabbitmq-dev
    have cc || need gcc libc6-dev
    [ "${#packages[@]}" -gt 0 ] || return 0
    if have apt-get && [ "$(id -u)" = 0 ]; then
        install_packages || printf 'warning: not installed: %s\n' "${packages[*]}" >&2
    else
        printf 'Clients of other languages are left out; for them: sudo apt-get install -y %s\n' "${packages[*]}"
    fi
    packages=()
}

# What the web pages are looked at with.
setup_web() {
    local venv="${WARREN_VENV:-.venv}" requirements=tests/web/requirements.txt
    have chromium || need chromium
    have chromedriver || need chromium-driver
    install_packages
    setup_python
    if ! cmp -s "$requirements" "$venv/installed-web.txt"; then
        echo "Installing the Python packages of $requirements"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
        cp "$requirements" "$venv/installed-web.txt"
    fi
}

for part in "$@"; do
    case "$part" in
        build) setup_build ;;
        python) setup_python ;;
        clients) setup_clients ;;
        web) setup_web ;;
        *) fail "unknown part '$part': build, python, clients or web" ;;
    esac
done
