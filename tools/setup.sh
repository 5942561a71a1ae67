#!/usr/bin/env bash
# Makes .venv from the hash-pinned locks: `setup.sh run` for the gateway alone, `setup.sh dev` with the
# tests' packages. When nothing has changed it ends within milliseconds, so every target may call it.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?run or dev}
venv=.venv
stamp=$venv/.setup
log=$venv/setup.log
wanted=${PYTHON:-}

say() { printf '%s\n' "$@" >&2; }  # a line for each argument
die() { say "$@"; exit 1; }

# --- Is there anything to do? -------------------------------------------------------------------

# Contents, not times: a checkout touches files without changing them. The path, since a virtual
# environment that was copied elsewhere still points at the old place.
fingerprint() {
    { pwd -P; cat requirements/build.lock requirements/run.lock requirements/dev.lock pyproject.toml; } | sha256sum
}
current=$(fingerprint)

works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
identity() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }

if [ -f "$stamp" ] && [ -x $venv/bin/python ]; then
    read -r done_kind done_fingerprint <"$stamp"
    if [ "$done_fingerprint" = "${current%% *}" ] && { [ "$done_kind" = "$kind" ] || [ "$done_kind" = dev ]; }; then
        if [ -z "$wanted" ] || [ "$(identity "$wanted")" = "$(identity $venv/bin/python)" ]; then
            exit 0
        fi
    fi
fi

# --- A Python that works ------------------------------------------------------------------------

# Found by running it: pyenv's shims are on PATH and then fail, and Debian's python3 comes without venv.
can_make_venv() {
    "$1" -c 'import sys, ssl, venv; from ensurepip import bootstrap; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    local candidate
    for candidate in ${wanted:-python3.13 python3.12 python3.11 python3.14 python3 python}; do
        if can_make_venv "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

VENV_PACKAGE=python3-venv
APT="apt-get update && apt-get install -y --no-install-recommends $VENV_PACKAGE"

install_venv_package() {
    if [ "$(id -u)" != 0 ]; then
        say "No Python 3.11 or newer with venv was found. On Debian or Ubuntu run:" "" "    sudo sh -c '$APT'" "" \
            "and then make again; or name another Python: make PYTHON=/path/to/python3.12 ..."
        exit 1
    fi
    say "No Python with venv: installing Debian's $VENV_PACKAGE ..."
    export DEBIAN_FRONTEND=noninteractive
    local said
    apt-get update -qq </dev/null >/dev/null 2>&1 ||
        say "The package lists could not be refreshed; trying with those at hand."
    said=$(apt-get install -y -qq --no-install-recommends $VENV_PACKAGE </dev/null 2>&1) ||
        die "$said" "" "$VENV_PACKAGE could not be installed. Run it yourself, then make again:" "" "    $APT"
}

no_python() {
    if [ -n "$wanted" ]; then
        die "PYTHON=$wanted does not run, is older than 3.11, or lacks the modules ssl, venv or ensurepip."
    fi
    die "The gateway needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3.12 ..."
}

choose_python() {
    find_python && return
    [ -z "$wanted" ] && command -v apt-get >/dev/null || no_python
    install_venv_package
    find_python || no_python
}

# --- Installing ---------------------------------------------------------------------------------

# Runs pip with its output in the log. A terminal sees a running count, anything else two lines.
install() {
    local what=$1 total=$2 started=$SECONDS count pid
    shift 2
    printf '%s ... ' "$what" >&2
    $venv/bin/python -m pip --disable-pip-version-check --no-input install --retries 3 --timeout 20 "$@" \
        >"$log" 2>&1 </dev/null &
    pid=$!
    while [ -t 2 ] && kill -0 $pid 2>/dev/null; do
        count=$(grep -cE '^(Collecting|Requirement already satisfied)' "$log" || true)
        printf '\r%s ... %s of %s ' "$what" "$count" "$total" >&2
        sleep 0.3
    done
    if ! wait $pid; then
        say "failed"
        explain_failure
        exit 1
    fi
    if [ -t 2 ]; then printf '\r\033[K%s ... ' "$what" >&2; fi
    say "done in $((SECONDS - started)) s"
}

explain_failure() {
    say "" "pip said (all of it: $log):" ""
    grep -vE '^WARNING|^ *$' "$log" | tail -n 12 | sed 's/^/    /' >&2
    say ""
    if grep -qiE 'name resolution|NewConnectionError|ConnectTimeout|Max retries|ProxyError|Network is unreachable|No matching distribution|SSLError' "$log"; then
        say "The Python package index could not be reached, or lacks a package. Check the network; behind a proxy" \
            "or a mirror set HTTPS_PROXY, PIP_INDEX_URL or PIP_CERT. make continues where it stopped."
    elif grep -qi 'hash' "$log"; then
        say "A package differs from the one that requirements/*.lock names. Nothing of it was installed."
    elif grep -qi 'no space left' "$log"; then
        say "The disk is full: run needs about 250 MB, dev about 900 MB."
    fi
}

packages_in() { grep -c '^[a-zA-Z0-9]' "$1"; }

is_whole() { works $venv/bin/python && $venv/bin/python -m pip --version >/dev/null 2>&1; }

if ! is_whole || { [ -f $stamp ] && ! grep -q "$(pwd -P)\$" $stamp; } ||
    { [ -n "$wanted" ] && [ "$(identity "$wanted")" != "$(identity $venv/bin/python)" ]; }; then
    python=$(choose_python)
    say "Making $venv with $("$python" --version) ..."
    "$python" -m venv --clear $venv || die "$venv could not be made with $python."
fi
rm -f $stamp

install "Installing the build tools" "$(packages_in requirements/build.lock)" \
    --only-binary :all: --require-hashes -r requirements/build.lock
lock=requirements/$kind.lock
# dkimpy comes as source alone; the build tools above build it.
install "Installing $(packages_in "$lock") packages from $lock" "$(packages_in "$lock")" \
    --only-binary :all: --no-binary dkimpy --no-build-isolation --require-hashes -r "$lock"
install "Installing the gateway itself" 1 --no-build-isolation --no-deps -e .

printf '%s %s\n%s\n' "$kind" "${current%% *}" "$(pwd -P)" >$stamp
