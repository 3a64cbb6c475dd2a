#!/bin/sh
# Speed of CTL on several devices: two epochs of DukeMTMC-reID.
set -eu
USAGE='usage: bash ./test/train_performance_8p.sh --data_path=FOLDER [FLAG_OF_TRAIN.PY ...]
  FOLDER holds DukeMTMC-reID (or Market1501, with --dataset=Market1501)
Starts with the HCCL rank table that the variable RANK_TABLE_FILE names, without one with msrun.'
. "$(dirname -- "$0")/common.sh"
. "$(dirname -- "$0")/distributed.sh"

need_data_path "$@"
table=${RANK_TABLE_FILE:--}
check_machines "$table"
launch "$table" --dataset=DukeMTMC-reID "--save_ckpt=$OUTPUT" --epoch_size=2 --distribute=True \
    "--device_num=$WORKER_NUM" ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
