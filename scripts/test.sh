#!/bin/sh
# What CI runs: lint, types, tests. Each also runs by itself.
set -eu
cd "$(dirname "$0")/.."
echo "== lint"
ruff check .
ruff format --check .
echo "== types"
mypy
echo "== tests"
exec python -m pytest "$@"
