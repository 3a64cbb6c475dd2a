#!/bin/sh
# Accuracy of a DEM checkpoint on the unseen classes.
set -eu
USAGE='usage: sh run_standalone_eval_ascend.sh DATASET MODE DATA_PATH CKPT [FLAG_OF_EVAL.PY ...]
  DATASET    AwA or CUB
  MODE       att, word or fusion
  DATA_PATH  folder that holds AwA_data or CUB_data
  CKPT       checkpoint file, or the folder that holds it
Runs in the foreground; all output goes to the terminal, the exit code is that of eval.py.
Environment: DEVICE_ID, DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).
example: sh run_standalone_eval_ascend.sh CUB att /data/DEM_data ../output/train.ckpt'
. "$(dirname -- "$0")/common.sh"

need_arguments 4 "$@"
need_dem_task "$1" "$2"
need_folder DATA_PATH "$3"
[ -e "$4" ] || refuse "CKPT does not exist: $4"
mode=$2 data=$3 checkpoint=$4
shift 4
exec "$PYTHON" "$ROOT/eval.py" "--dataset=$dataset" "--train_mode=$mode" "--data_path=$data" \
    "--save_ckpt=$checkpoint" ${DEVICE_ID:+"--device_id=$DEVICE_ID"} \
    ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
