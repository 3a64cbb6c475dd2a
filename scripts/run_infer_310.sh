#!/bin/sh
# An exported model on an Ascend 310: its inputs, its outputs, its accuracy.
set -eu
USAGE='usage: bash run_infer_310.sh MINDIR_PATH DATA_PATH [DEVICE_ID] [FLAG_OF_EVAL.PY ...]
  MINDIR_PATH  .mindir of a fixed batch, as export.py has written it; the checkpoint is looked for in its folder unless
               --save_ckpt names one
  DATA_PATH    folder of the data that eval.py measures on
  DEVICE_ID    number of the card, default: the variable DEVICE_ID, else 0
Needs mindspore_lite; converter_lite is used where it is in PATH. All output goes to the terminal and to infer.log in the folder
infer_310 of the project, with the inputs and the results; the exit code is 0 if the accuracy was measured.
Environment: DEVICE_ID, PYTHON (default python).
example: bash run_infer_310.sh ../output/resnet50.mindir ~/Stanford_Online_Products 0'
. "$(dirname -- "$0")/common.sh"

need_arguments 2 "$@"
[ -f "$1" ] || refuse "MINDIR_PATH is not a file: $1"
[ -e "$2" ] || refuse "DATA_PATH does not exist: $2"
model=$1 data=$2 device=${DEVICE_ID:-0}
shift 2
case ${1:-} in
    '' | --*) ;;
    *)
        device=$1
        shift
        ;;
esac
need_number DEVICE_ID "$device"
export PYTHONPATH="$ROOT${PYTHONPATH:+":$PYTHONPATH"}"
run_logged "$ROOT/infer_310" infer "$PYTHON" -m src.ascend310 infer "$ROOT/infer_310" "$model" "$data" "$device" "$@"
