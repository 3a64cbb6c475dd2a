#!/bin/sh
# Recall of a metric_learn checkpoint.
set -eu
USAGE='usage: bash run_eval.sh DATASET_PATH CKPT_PATH [DEVICE_ID] [FLAG_OF_EVAL.PY ...]
  DATASET_PATH  folder of Stanford Online Products, or another folder or list of images
  CKPT_PATH     checkpoint to evaluate
  DEVICE_ID     number of the device; without it the variable DEVICE_ID, if set
Runs in the foreground; all output goes to the terminal and to eval/eval.log of the project (replaced by the next run),
the exit code is that of eval.py.
Environment: DEVICE_ID, DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).
example: bash run_eval.sh ~/Stanford_Online_Products ~/ResNet50.ckpt'
. "$(dirname -- "$0")/common.sh"

need_arguments 2 "$@"
need_images DATASET_PATH "$1"
[ -e "$2" ] || refuse "CKPT_PATH does not exist: $2"
data=$1 checkpoint=$2 device=${DEVICE_ID:-}
shift 2
case ${1:-} in
    '' | --*) ;;
    *)
        need_number DEVICE_ID "$1"
        device=$1
        shift
        ;;
esac
run_logged "$ROOT/eval" eval "$PYTHON" "$ROOT/eval.py" "--dataset_path=$data" "--ckpt_path=$checkpoint" \
    ${device:+"--device_id=$device"} ${DEVICE_TARGET:+"--device_target=$DEVICE_TARGET"} "$@"
