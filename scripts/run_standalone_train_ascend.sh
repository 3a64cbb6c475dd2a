#!/bin/sh
# DEM on one device.
set -eu
USAGE='usage: sh run_standalone_train_ascend.sh DATASET MODE DATA_PATH SAVE_CKPT [FLAG_OF_TRAIN.PY ...]
  DATASET    AwA or CUB
  MODE       att, word or fusion
  DATA_PATH  folder that holds AwA_data or CUB_data
  SAVE_CKPT  folder for checkpoints and result.json
Runs in the foreground; all output goes to the terminal, the exit code is that of train.py.
Environment: DEVICE_ID, DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).
example: sh run_standalone_train_ascend.sh CUB att /data/DEM_data ../output --epoch_size=2'
. "$(dirname -- "$0")/common.sh"

need_arguments 4 "$@"
need_dem_task "$1" "$2"
need_folder DATA_PATH "$3"
if [ -z "$4" ] || [ -f "$4" ]; then
    refuse "SAVE_CKPT is the folder to write to, not '$4'"
fi
mode=$2 data=$3 save=$4
shift 4
exec "$PYTHON" "$ROOT/train.py" "--dataset=$dataset" "--train_mode=$mode" "--data_path=$data" "--save_ckpt=$save" \
    ${DEVICE_ID:+"--device_id=$DEVICE_ID"} ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
