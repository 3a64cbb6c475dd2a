#!/bin/sh
# metric_learn on one GPU, by the published name; LOSS_NAME only named a folder.
[ $# -ge 3 ] || { echo 'usage: bash run_eval_gpu.sh DATASET_PATH CHECKPOINT_PATH DEVICE_ID [LOSS_NAME]' >&2; exit 2; }
DEVICE_TARGET=GPU exec sh "$(dirname -- "$0")/run_eval.sh" "$1" "$2" "$3"
