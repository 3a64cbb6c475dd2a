#!/bin/sh
# Speed of CTL on one device: two epochs of DukeMTMC-reID.
set -eu
USAGE='usage: bash ./test/train_performance_1p.sh --data_path=FOLDER [FLAG_OF_TRAIN.PY ...]
  FOLDER holds DukeMTMC-reID (or Market1501, with --dataset=Market1501)
Starts from models/resnet50-19c8e357.pth (or .safetensors) in the project, where --ckpt_path names no other weights.
Runs in the foreground; all output goes to the terminal and to train.log (replaced by the next run), the exit code is
that of train.py. The log and the checkpoints are in the folder train_performance_1p of the project.
Environment: DEVICE_ID, DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).'
. "$(dirname -- "$0")/common.sh"

need_data_path "$@"
find_weights "$@"
folder=$ROOT/train_performance_1p
run_logged "$folder" train "$PYTHON" "$ROOT/train.py" --dataset=DukeMTMC-reID "--save_ckpt=$folder" --epoch_size=2 \
    ${start:+"--ckpt_path=$start"} ${DEVICE_ID:+"--device_id=$DEVICE_ID"} \
    ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
