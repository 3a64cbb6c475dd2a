#!/bin/sh
# DEM on several GPUs, by the published name.
[ $# -eq 5 ] || { echo 'usage: bash run_distributed_train_gpu.sh DATASET MODE DATA_PATH SAVE_CKPT DEVICE_NUM' >&2; exit 2; }
DEVICE_TARGET=GPU DEVICE_NUM=$5 LOG_DIR=$4 exec sh "$(dirname -- "$0")/run_distributed_train_ascend.sh" - "$1" "$2" "$3"
