#!/usr/bin/env bash
# Everything worth knowing from a GPU in ten minutes: --help. It needs bdlib installed, and no network.

set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=python3
PYTHONPATH=$root:$root/tools/bench${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m gpu "$@"
