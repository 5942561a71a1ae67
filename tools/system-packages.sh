#!/usr/bin/env bash
# Installs the servers and the browser that the tests drive (tests/plugins/system_packages.py lists them),
# where that is allowed: as root on Debian. Elsewhere it says what to run, and the tests that need them are
# skipped by name. `make test SYSTEM_PACKAGES=no` leaves the system alone.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$@" >&2; }

missing=$(.venv/bin/python -m tests.plugins.system_packages)
[ -n "$missing" ] || exit 0

if [ "${SYSTEM_PACKAGES:-}" = no ] || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "Not installed: ${missing//$'\n'/, }. The tests that need them will be skipped. On Debian or Ubuntu:"
    say "    sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing//$'\n'/ }"
    exit 0
fi

# Installing a server must not start it: Debian asks this file first (invoke-rc.d(8)). One that is
# already there is the administrator's, and stays.
guard=/usr/sbin/policy-rc.d
if [ ! -e $guard ]; then
    trap 'rm -f $guard' EXIT
    printf '#!/bin/sh\nexit 101\n' >$guard
    chmod 755 $guard
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq </dev/null >/dev/null 2>&1 ||
    say "The package lists could not be refreshed; trying with those at hand."
log=$(mktemp)
for package in $missing; do
    printf 'Installing %s for the tests ... ' "$package" >&2
    started=$SECONDS
    if apt-get install -y -qq --no-install-recommends "$package" </dev/null >"$log" 2>&1; then
        say "done in $((SECONDS - started)) s"
    else
        say "failed; the tests that need it will be skipped:"
        tail -n 5 "$log" | sed 's/^/    /' >&2
    fi
done
rm -f "$log"
