#!/bin/sh
# metric_learn on one device.
set -eu
USAGE='usage: bash run_standalone_train.sh DATASET_PATH CKPT_PATH DEVICE_ID LOSS_NAME [FLAG_OF_TRAIN.PY ...]
  DATASET_PATH  folder of Stanford Online Products, or another folder or list of images
  CKPT_PATH     checkpoint to start from, or - for none
  DEVICE_ID     number of the device
  LOSS_NAME     softmax, triplet, quadruplet or another loss of train.py
Runs in the foreground; all output goes to the terminal and to train.log (replaced by the next run), the exit code is
that of train.py. The log and the checkpoints are in the folder train_LOSS_NAME of the project.
Environment: DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).
example: bash run_standalone_train.sh ~/Stanford_Online_Products ~/ResNet50.ckpt 0 triplet'
. "$(dirname -- "$0")/common.sh"

need_arguments 4 "$@"
need_images DATASET_PATH "$1"
need_start CKPT_PATH "$2"
need_number DEVICE_ID "$3"
case $4 in
    '' | */*) refuse "LOSS_NAME must be a name, not '$4'" ;;
esac
data=$1 device=$3 loss=$4
shift 4
folder=$ROOT/train_$loss
run_logged "$folder" train "$PYTHON" "$ROOT/train.py" "--dataset_path=$data" ${start:+"--ckpt_path=$start"} \
    "--loss_name=$loss" "--save_ckpt=$folder" "--device_id=$device" \
    ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
