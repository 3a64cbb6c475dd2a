#!/bin/sh
# metric_learn on several devices, data parallel.
set -eu
USAGE='usage: bash run_distribute_train.sh RANK_TABLE|- DATASET_PATH PRETRAINED_CKPT_PATH LOSS_NAME [FLAG ...]
  RANK_TABLE            HCCL rank table (.json), or - to start with msrun
  DATASET_PATH          folder of Stanford Online Products, or another folder or list of images
  PRETRAINED_CKPT_PATH  checkpoint to start from, or - for none
  LOSS_NAME             softmax, triplet, quadruplet or another loss of train.py
example: bash run_distribute_train.sh hccl_8p.json ~/Stanford_Online_Products ~/ResNet50.ckpt triplet'
. "$(dirname -- "$0")/common.sh"
. "$(dirname -- "$0")/distributed.sh"

need_arguments 4 "$@"
need_images DATASET_PATH "$2"
need_start PRETRAINED_CKPT_PATH "$3"
[ -n "$4" ] || refuse 'LOSS_NAME is empty'
check_machines "$1"
table=$1 data=$2 loss=$4
shift 4
launch "$table" "--dataset_path=$data" ${start:+"--ckpt_path=$start"} "--loss_name=$loss" "--save_ckpt=$OUTPUT" \
    --run_distribute=True "--device_num=$WORKER_NUM" ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
