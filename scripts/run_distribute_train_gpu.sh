#!/bin/sh
# metric_learn on several GPUs, by the published name.
[ $# -ge 2 ] || { echo 'usage: bash run_distribute_train_gpu.sh DATASET_PATH LOSS_NAME [CHECKPOINT_PATH]' >&2; exit 2; }
DEVICE_TARGET=GPU exec sh "$(dirname -- "$0")/run_distribute_train.sh" - "$1" "${3:--}" "$2"
