#!/usr/bin/env bash
# From nothing to a table: makes .venv, then runs the Speech Commands recipe on a synthetic corpus.
# A second run finds everything in place and only shows the table again.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

results=$PWD/recipes/SpeechCommands/exp/quickstart
PYTHON=$python recipes/SpeechCommands/run.sh --data_folder mini --results_folder "$results" \
  --experiment=quickstart --number_of_epochs=20 "$@"

echo
echo "This was synthetic speech. What to look at:"
echo "  $results/report.html                        the table with every run's details"
echo "  recipes/SpeechCommands/exp/poison/*/attack.png       what the trigger does to a clip"
echo "  recipes/SpeechCommands/exp/train/*/figures/          training curves, confusion matrices"
echo "  recipes/SpeechCommands/README.md                     the same on real speech"
