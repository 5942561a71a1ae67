#!/usr/bin/env bash
# Writes requirements/*.lock anew. Resolved for Python 3.11 and up on every platform, with the hashes of all
# wheels; relative paths and no index address, since uv records its command in the files.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v uv >/dev/null || {
    echo "make lock needs uv (the package of that name: pipx install uv)." >&2
    exit 1
}
compile() {
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url "$@"
}
compile -o requirements/build.lock requirements/build.in
compile -o requirements/run.lock pyproject.toml
compile --extra dev -c requirements/run.lock -o requirements/dev.lock pyproject.toml
