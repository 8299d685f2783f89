#!/usr/bin/env bash
# All stages of a recipe, from a corpus folder to rendered tables. Called by each recipe's run.sh.
#
#   1 prepare   corpus folder -> manifests
#   2 poison    manifests and an attack -> poisoned manifests, the truth, a picture
#   3 pack      waveforms, triggers applied (done together with 2)
#   4 train     a classifier on the poisoned data
#   5 score     its answers to the clean and the triggered test set (done together with 4)
#   6 defend    every defense named: train and score again
#   7 measure   scores and truth -> numbers (done together with 8)
#   8 record    numbers -> one line a run in results
#   9 render    lines -> tables and a report
#
# Options:
#   --data_folder FOLDER   the corpus, or mini for a synthetic stand-in
#   --hparams "A B"        yaml files of hparams/
#   --defenses "A B"       yaml files of recipes/common/defenses
#   --seeds "0 1 2"        training seeds
#   --stage N              first stage
#   --stop_stage N         last stage
#   --results_folder DIR   where the records go: exp/results, or ../../results to publish them
# Any other --key=value goes to the programs: --rate=0.05 --attack=whistle --number_of_epochs=3.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/parse_options.sh"

python=${PYTHON:-$(cd ../.. && pwd)/.venv/bin/python}
command -v "$python" >/dev/null || { echo "error: no $python; run tools/quickstart.sh, or set PYTHON" >&2; exit 1; }
[ -n "$data_folder" ] || { echo "error: give --data_folder FOLDER, or --data_folder mini" >&2; exit 1; }
case $data_folder in
  /* | "~"* | mini) ;;
  *) data_folder=$OLDPWD/$data_folder ;; # as seen from where run.sh was started
esac

in_range() { [ "$stage" -le "$2" ] && [ "$stop_stage" -ge "$1" ]; }
log() { echo "# $*"; }
run() { # program, yaml, seed, options
  local program=$1 yaml=$2 seed=$3
  shift 3
  command_line "$program.py" "$yaml" --data_folder="$data_folder" \
    --results_folder="$results_folder" --seed="$seed" "$@" ${extra[@]+"${extra[@]}"}
}
command_line() { printf '%q ' "$@"; echo; }

# The commands, a line each; one process runs them, so that torch is imported once.
stages() {
  for yaml in $hparams; do
    for seed in $seeds; do
      if in_range 1 1; then
        log "stage 1: prepare"
        run prepare "$yaml" "$seed"
      fi
      if in_range 2 3; then
        log "stages 2 and 3: poison, pack"
        run poison "$yaml" "$seed"
      fi
      if in_range 4 5; then
        log "stages 4 and 5: train, score ($yaml, seed $seed)"
        run train "$yaml" "$seed" --stop_stage=5
      fi
      if in_range 6 6; then
        for defense in $defenses; do
          log "stage 6: defend ($defense, $yaml, seed $seed)"
          run defend "$yaml" "$seed" --defense="$defense" --stop_stage=6
        done
      fi
      if in_range 7 8; then
        log "stages 7 and 8: measure, record ($yaml, seed $seed)"
        run train "$yaml" "$seed"
        for defense in $defenses; do
          run defend "$yaml" "$seed" --defense="$defense"
        done
      fi
    done
  done
  if in_range 9 9; then
    log "stage 9: render"
    command_line render.py --results "$results_folder"
  fi
}
stages | "$python" run.py
