#!/bin/sh
# Speed of CTL on several devices: two epochs of DukeMTMC-reID.
set -eu
USAGE='usage: bash ./test/train_performance_8p.sh --data_path=FOLDER [FLAG_OF_TRAIN.PY ...]
  FOLDER holds DukeMTMC-reID (or Market1501, with --dataset=Market1501)
Starts from models/resnet50-19c8e357.pth (or .safetensors) in the project, where --ckpt_path names no other weights.
Starts with the HCCL rank table that the variable RANK_TABLE_FILE names, without one with msrun.
Its folder is train_performance_8p where train_parallel is named below.'
. "$(dirname -- "$0")/common.sh"
. "$(dirname -- "$0")/distributed.sh"

# Beside, not over, what train_full_8p.sh has trained.
OUTPUT=$(absolute "${LOG_DIR:-$ROOT/train_performance_8p}")
need_data_path "$@"
find_weights "$@"
table=${RANK_TABLE_FILE:--}
check_machines "$table"
launch "$table" --dataset=DukeMTMC-reID "--save_ckpt=$OUTPUT" --epoch_size=2 --distribute=True \
    "--device_num=$WORKER_NUM" ${start:+"--ckpt_path=$start"} ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
