#!/usr/bin/env bash
# All tests, one thread on each core; makes .venv if it is missing. Arguments go to pytest, which
# says at the end what it skipped, and why.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m codespell_lib .
"$python" tools/tables.py --check
"$python" tools/render.py --check
OMP_NUM_THREADS=1 "$python" -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal -rs "$@"
