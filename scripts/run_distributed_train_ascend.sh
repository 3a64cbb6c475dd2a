#!/bin/sh
# DEM on several devices, data parallel.
set -eu
USAGE='usage: sh run_distributed_train_ascend.sh RANK_TABLE|- DATASET MODE DATA_PATH [FLAG_OF_TRAIN.PY ...]
  RANK_TABLE  HCCL rank table (.json), or - to start with msrun
  DATASET     AwA or CUB
  MODE        att, word or fusion
  DATA_PATH   folder that holds AwA_data or CUB_data
Trains 120 epochs unless flags say otherwise: with 8 devices and the published CUB data the last
checkpoints are then train_parallel/RANK/auto_parallel-120_11.ckpt, as published.
example: DEVICE_TARGET=CPU DEVICE_NUM=2 sh run_distributed_train_ascend.sh - CUB att /data/DEM_data'
. "$(dirname -- "$0")/common.sh"
. "$(dirname -- "$0")/distributed.sh"

need_arguments 4 "$@"
need_dem_task "$2" "$3"
need_folder DATA_PATH "$4"
check_machines "$1"
table=$1 mode=$3 data=$4
shift 4
launch "$table" --epoch_size=120 "--dataset=$dataset" "--train_mode=$mode" "--data_path=$data" "--save_ckpt=$OUTPUT" \
    --distribute=True "--device_num=$WORKER_NUM" ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
