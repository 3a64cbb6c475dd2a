#!/bin/sh
# Does this machine train, evaluate and export, and does it compute what a CPU computes? No data needed.
set -eu
USAGE='usage: bash accept_ascend.sh [DEVICES]
  DEVICES  number of devices, default: all NPUs of this machine; on a CPU two processes
Prints a table: item, wanted, verdict, seconds, found. Writes accept_TARGET_TIME.tar.gz to the current folder: the table, the
versions and the logs, without your paths. The exit code is 1 if an item failed. docs/ASCEND.md says what each item means.
Environment: DEVICE_TARGET (Ascend, GPU or CPU), PYTHON (default python).'
. "$(dirname -- "$0")/common.sh"

need_arguments 0 "$@"
PYTHONPATH=$ROOT${PYTHONPATH:+":$PYTHONPATH"} exec "$PYTHON" -m src.acceptance "$@"
