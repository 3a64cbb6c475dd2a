#!/usr/bin/env bash
# Runs the fast tests on every supported MindSpore release and prints one line a release. Each has a virtual environment of its
# own beside the usual one, made when it is first needed (3 GB each).
# usage: bash scripts/test_releases.sh [RELEASE...]       (default: 2.7.2 2.8.0 2.9.0 2.10.0)
set -u
. "$(dirname "$0")/environment.sh"
read_options "$@"
CDPATH='' cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}
failed=0
[ $# -gt 0 ] || set -- 2.7.2 2.8.0 2.9.0 2.10.0
for release do
    venv=$cache/dml-mindspore-$release
    mkdir -p "$cache"
    echo "mindspore==$release" >"$venv.txt"
    VIRTUAL_ENV='' VENV=$venv PIP_CONSTRAINT=$venv.txt bash scripts/run_tests.sh -m 'not slow' >"$venv.log" 2>&1
    code=$?
    [ $code = 0 ] || failed=1
    runs=$("$venv/bin/python" 2>/dev/null <<'END'
import sys, numpy
print(f'Python {sys.version_info[0]}.{sys.version_info[1]}, numpy {numpy.__version__}')
END
    )
    echo "MindSpore $release, ${runs:-not installed}: $(tail -n 1 "$venv.log") (exit $code, $venv.log)"
done
exit $failed
