# Sourced by quickstart.sh, run_tests.sh and test_releases.sh: a virtual environment with the given requirements, made once per machine.
# Sets PYTHON. An active virtual environment is used as it is; else VENV, by default outside the checkout, because
# MindSpore's wheel is large and every checkout can share one.
# usage: . scripts/environment.sh; prepare_environment REQUIREMENTS_FILE

# read_options "$@": shows the comment at the head of the script where --help is asked for, and refuses other options.
read_options() {
    case ${1-} in
    -h | --help)
        sed -n '/^# /s/^# //p;/^set /q' "$0"
        exit 0
        ;;
    -*)
        echo "${0##*/}: unknown option $1 (--help shows the usage)" >&2
        exit 2
        ;;
    esac
}

find_python() {
    for candidate in python3.12 python3.11 python3.10 python3.9 python3 python; do
        if "$candidate" -c 'import sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "$0: error: no Python 3.9 to 3.12 with the venv module found; MindSpore has no wheel for others" >&2
    return 1
}

prepare_environment() {
    venv=${VIRTUAL_ENV:-${VENV:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/dml-mindspore-venv}}
    if [ ! -x "$venv/bin/python" ]; then
        base=$(find_python) || exit 1
        echo "making the virtual environment $venv with $base"
        "$base" -m venv "$venv"
    fi
    PYTHON=$venv/bin/python
    PATH=$venv/bin:$PATH
    export PYTHON PATH
    # pip takes seconds to find that nothing is to do; a stamp with the requirements tells at once.
    stamp=$venv/.installed-$(cat "$1" requirements.txt | cksum | cut -d ' ' -f 1)
    if [ ! -e "$stamp" ]; then
        echo "installing $1 into $venv (MindSpore is a large download, once per machine)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$1"
        touch "$stamp"
    fi
    check_ascend
}

# Says in one line which packages MindSpore will miss on a machine with an Ascend device; silent on other machines.
check_ascend() {
    set -- "${DEVICE_FILES:-/dev/davinci}"[0-9]*
    [ -e "$1" ] || return 0
    if [ -z "${ASCEND_HOME_PATH:-}${ASCEND_TOOLKIT_HOME:-}" ]; then
        echo "$0: there is an Ascend device, but CANN is not set up: source its set_env.sh first" >&2
    elif ! "$PYTHON" -c 'import te, hccl' 2>/dev/null; then
        echo "$0: CANN's Python packages te and hccl are not in $venv: install the wheels of CANN's lib64 folder there" >&2
    fi
}
