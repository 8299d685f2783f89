#!/usr/bin/env bash
# The ESD recipe, stage by stage: ./run.sh --data_folder FOLDER, or --data_folder mini.
# ./run.sh --help lists the stages and the options.

cd "$(dirname "$0")"
data_folder=
hparams="hparams/xvector_small.yaml"
defenses="random_filter perfect_filter_oracle"
seeds="0"
stage=1
stop_stage=9
results_folder=exp/results
options="data_folder hparams defenses seeds stage stop_stage results_folder"

. ../common/run.sh
