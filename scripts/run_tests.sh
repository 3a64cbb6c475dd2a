#!/usr/bin/env bash
# All tests: installs what they need, then runs pytest with the given arguments.
# usage: bash scripts/run_tests.sh [PYTEST_ARGUMENT...]      (-m "not slow" for the fast ones)
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
prepare_environment tests/requirements.txt
case ${1:-} in
    '' | -*) set -- tests "$@" ;;
esac
exec "$PYTHON" -m pytest -q --durations=10 "$@"
