#!/bin/bash
# Writes requirements.lock (what the agent needs) and requirements-dev.lock (that, and what tests and linters need)
# from pyproject.toml, with hashes; requirements-bench.lock holds what only `make bench` needs.  Needs the network; versions move only when this is run.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
/usr/bin/python3 -m venv "$tools"
"$tools/bin/pip" install --quiet pip-tools
compile() {  # arguments: options, then the source
    "$tools/bin/pip-compile" --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$@"
}
compile --output-file requirements.lock "$@" pyproject.toml
compile --extra dev --constraint requirements.lock --output-file requirements-dev.lock "$@" pyproject.toml
sed -n 's/^bench = \["\([^"]*\)"\].*/\1/p' pyproject.toml >"$tools/bench.in"
compile --no-annotate --output-file requirements-bench.lock "$@" "$tools/bench.in"
