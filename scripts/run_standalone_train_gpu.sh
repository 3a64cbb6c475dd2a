#!/bin/sh
# The published name for one GPU, of DEM (DATASET MODE DATA_PATH SAVE_CKPT) and of metric_learn (DATASET_PATH DEVICE_ID LOSS_NAME
# [CHECKPOINT_PATH]). With DEVICE_TARGET=GPU the launchers that it calls do the same and take flags.
export DEVICE_TARGET=GPU
case ${1:-} in
    CUB | AwA | AWA) exec sh "$(dirname -- "$0")/run_standalone_train_ascend.sh" "$@" ;;
esac
[ $# -ge 3 ] || { echo 'usage: bash run_standalone_train_gpu.sh DATASET_PATH DEVICE_ID LOSS_NAME [CHECKPOINT_PATH]' >&2; exit 2; }
exec sh "$(dirname -- "$0")/run_standalone_train.sh" "$1" "${4:--}" "$2" "$3"
