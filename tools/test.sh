#!/usr/bin/env bash
# All tests; makes .venv if it is missing. Arguments go to pytest.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m codespell_lib .
"$python" tools/render.py --check
"$python" -m pytest "$@"
