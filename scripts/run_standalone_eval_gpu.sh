#!/bin/sh
# DEM on one GPU, by the published name: DATASET MODE DATA_PATH CKPT [FLAG_OF_EVAL.PY ...].
DEVICE_TARGET=GPU exec sh "$(dirname -- "$0")/run_standalone_eval_ascend.sh" "$@"
