#!/usr/bin/env bash
# From nothing to a table: makes .venv, then runs the Speech Commands recipe on a synthetic corpus.
# A second run finds everything in place and only shows the table again.

set -euo pipefail
cd "$(dirname "$0")/.."
. tools/environment.sh

recipe() {
  PYTHON=$python recipes/SpeechCommands/run.sh --data_folder mini --results_folder exp/quickstart \
    --experiment=quickstart "$@"
}
recipe --number_of_epochs=16 --stop_stage 8 "$@"
recipe --hparams hparams/mvd_small.yaml --defenses= --number_of_epochs=18 --batch_size=16 "$@"
recipe --hparams hparams/mvj_small.yaml --defenses= --number_of_epochs=11 --batch_size=16 \
  --langevin_steps=5 "$@"

echo
echo "This was synthetic speech. What to look at:"
cd recipes/SpeechCommands
for path in exp/quickstart/report.html exp/poison/*/attack.html exp/train/*/figures/*.png README.md; do
  echo "  recipes/SpeechCommands/$path"
done
