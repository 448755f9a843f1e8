#!/bin/sh
# Make .venv with everything that the demo and the tests need: the CPU build of torch, pinned
# packages, lingraft itself. Stops before anything is installed if CUDA packages would come.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
constraints=constraints/cpu.txt

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"install: Python 3.11 or newer is needed; this is {sys.version.split()[0]}. "
             "Name another one: make install PYTHON=python3.11")
PY

"$python" -m venv .venv
echo "install: looking which torch would be installed"
torch=$(grep '^torch==' "$constraints")
.venv/bin/python -m pip install --quiet --disable-pip-version-check --dry-run \
    --report .venv/torch.json -c "$constraints" "$torch" >/dev/null
.venv/bin/python scripts/refuse_cuda.py .venv/torch.json

echo "install: installing pinned packages into .venv (about 2 GB; a minute or two)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check \
    -c "$constraints" "$torch" -e '.[train,demo,dev]'
.venv/bin/python - <<'PY'
import importlib.metadata as m, pathlib
size = sum(p.stat().st_size for p in pathlib.Path(".venv").rglob("*") if p.is_file() and not p.is_symlink())
print(f"install: done, {len(list(m.distributions()))} packages, {size / 1e9:.2f} GB in .venv")
PY
touch .venv/.installed
