#!/usr/bin/env bash
# All tests: installs what they need, then runs pytest with the given arguments (default: everything).
# usage: bash scripts/run_tests.sh [PYTEST_ARGUMENT...]
set -eu
cd "$(dirname "$0")/.."
. scripts/environment.sh
prepare_environment tests/requirements.txt
exec "$PYTHON" -m pytest -q --durations=10 "${@:-tests}"
