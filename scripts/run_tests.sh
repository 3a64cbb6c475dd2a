#!/usr/bin/env bash
# All tests: installs what they need, then runs pytest with the given arguments, in four processes, each of which takes file by
# file; a path among them takes the place of tests and runs in one.
# usage: bash scripts/run_tests.sh [PYTEST_ARGUMENT...]       for example -m "not slow"
set -eu
CDPATH='' cd "$(dirname "$0")/.."
. scripts/environment.sh
prepare_environment tests/requirements.txt
# Two a processor for two processors: a quarter of the time tests wait for processes that they started.
where=tests parallel='-n 4 --dist=loadfile --no-loadscope-reorder'
for arg do
    # A node of a file is PATH::NAME.
    [ ! -e "${arg%%::*}" ] || where='' parallel=''
done
# shellcheck disable=SC2086 # several options in one variable
exec "$PYTHON" -m pytest -q --durations=10 $parallel "$@" ${where:+"$where"}
