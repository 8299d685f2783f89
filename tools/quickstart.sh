#!/usr/bin/env bash
# From nothing to a table: makes .venv, then runs the Speech Commands recipe on a synthetic corpus.
# A second run finds everything in place and only shows the table again.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

PYTHON=$python recipes/SpeechCommands/run.sh --data_folder mini --results_folder exp/quickstart \
  --experiment=quickstart --number_of_epochs=20 "$@"

echo
echo "This was synthetic speech. What to look at:"
cd recipes/SpeechCommands
for path in exp/quickstart/report.html exp/poison/*/attack.png exp/train/*/figures/*.png README.md; do
  echo "  recipes/SpeechCommands/$path"
done
