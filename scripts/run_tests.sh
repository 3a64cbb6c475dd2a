#!/usr/bin/env bash
# All tests: installs what they need, then runs pytest with the given arguments; a path among them takes the place of tests.
# usage: bash scripts/run_tests.sh [PYTEST_ARGUMENT...]       for example -m "not slow"
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
prepare_environment tests/requirements.txt
where=tests
for arg do
    # A node of a file is PATH::NAME.
    [ ! -e "${arg%%::*}" ] || where=
done
exec "$PYTHON" -m pytest -q --durations=10 "$@" ${where:+"$where"}
