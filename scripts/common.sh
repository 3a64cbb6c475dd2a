# Sourced by the launchers, never run: what all of them share. POSIX sh.
# Expects USAGE from the launcher; sets ROOT (the project's folder) and PYTHON.

# shellcheck disable=SC2034 # read by the launchers
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# One line on standard error, then exit 2.
refuse() {
    printf '%s: %s (%s --help shows the usage)\n' "${0##*/}" "$1" "${0##*/}" >&2
    exit 2
}

# need_arguments COUNT "$@": shows the usage where --help is asked for, refuses fewer arguments.
need_arguments() {
    case ${2:-} in
        -h | --help)
            printf '%s\n' "$USAGE"
            exit
            ;;
    esac
    [ $(($# - 1)) -ge "$1" ] || refuse "$1 arguments needed, $(($# - 1)) given"
}

absolute() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        *) printf '%s\n' "$PWD/$1" ;;
    esac
}

need_folder() {
    [ -d "$2" ] || refuse "$1 is not a folder: $2"
}

need_images() {
    [ -d "$2" ] || [ -f "$2" ] || refuse "$1 is neither a folder nor a list: $2"
}

need_number() {
    case $2 in
        '' | *[!0-9]* | 0?*) refuse "$1 must be a whole number, not '$2'" ;;
    esac
}

# Sets start to the checkpoint to start from, empty for none.
need_start() {
    case $2 in
        - | none) start='' ;;
        *) start=$2 ;;
    esac
    [ -z "$start" ] || [ -f "$start" ] || refuse "$1 is neither a file nor -: $2"
}

# Sets dataset.
need_dem_task() {
    dataset=$1
    case $1 in
        AwA | CUB) ;;
        # As the published launchers for GPU write it.
        AWA) dataset=AwA ;;
        *) refuse "DATASET must be AwA or CUB, not '$1'" ;;
    esac
    case $2 in
        att | word | fusion) ;;
        *) refuse "MODE must be att, word or fusion, not '$2'" ;;
    esac
}

# CTL's launchers take their folder by flag, as published.
need_data_path() {
    need_arguments 0 "$@"
    for arg do
        case $arg in
            --data_path=*) need_folder --data_path "${arg#*=}" && return ;;
        esac
    done
    refuse 'the flag --data_path=FOLDER is missing'
}

# Sets start to the ImageNet weights that CTL's published page has put into models/, empty when a flag says what to start from.
find_weights() {
    start=''
    for arg do
        case $arg in
            --ckpt_path* | --pretrained* | --resume* | --checkpoint*) return 0 ;;
        esac
    done
    for kind in safetensors pth; do
        [ ! -f "$ROOT/models/resnet50-19c8e357.$kind" ] || start=$ROOT/models/resnet50-19c8e357.$kind
    done
    [ -n "$start" ] ||
        printf '%s: no models/resnet50-19c8e357.pth in %s, starting from random weights\n' "${0##*/}" "$ROOT" >&2
}

# Absolute, because several devices mean another working folder and another PATH.
PYTHON=${PYTHON:-python}
command -v -- "$PYTHON" >/dev/null || refuse "there is no program '$PYTHON': set PYTHON"
PYTHON=$(absolute "$(command -v -- "$PYTHON")")

# run_logged FOLDER NAME COMMAND...: the command in the foreground, its output on the terminal and in FOLDER/NAME.log.
# Named pipes, because the exit code of a command piped into tee is lost in POSIX sh.
run_logged() {
    log=$1/$2.log
    new=
    [ -d "$1" ] || new=$1
    mkdir -p -- "$1"
    : >"$log"
    shift 2
    pipes=$(mktemp -d)
    trap 'rm -rf -- "$pipes"' EXIT
    mkfifo "$pipes/out" "$pipes/err"
    tee -a -- "$log" <"$pipes/out" &
    tees=$!
    tee -a -- "$log" <"$pipes/err" >&2 &
    tees="$tees $!"
    PYTHONUNBUFFERED=1 "$@" >"$pipes/out" 2>"$pipes/err" &
    child=$!
    # The shell starts background commands deaf to SIGINT, so both signals arrive as SIGTERM.
    trap 'signalled=yes; kill -TERM "$child" 2>/dev/null || :' INT TERM
    code=0
    while :; do
        signalled=
        code=0
        wait "$child" || code=$?
        [ -n "$signalled" ] || break
    done
    # shellcheck disable=SC2086 # a list of two numbers
    wait $tees
    # What was refused before it began leaves nothing: a misspelt name no folder of that name.
    if [ "$code" = 2 ] && [ -n "$new" ]; then
        rm -f -- "$log"
        rmdir -- "$new" 2>/dev/null || :
    fi
    exit "$code"
}
