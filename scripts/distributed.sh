# Sourced by the launchers of several devices after common.sh: check_machines and launch. POSIX sh on Linux.
# Sets DEVICE_NUM, WORKER_NUM and OUTPUT. msrun only starts the processes: when one dies it needs half a minute
# to return, returns 1 whatever the reason was, and on SIGTERM leaves them running; so both ways of starting are
# watched here, by the lines that rank.sh leaves.

USAGE="$USAGE
Further flags go to train.py; a path in one must be absolute or begin with ./ or ../ (of the caller's folder).
The launcher waits in the foreground and shows the log of this machine's first rank. Rank k writes to the folder
train_parallel/k: its checkpoints and train.log (replaced by the next launch). When a rank fails the others are
killed, its error or its last lines are shown and its exit code returned. SIGINT and SIGTERM reach every rank as
SIGTERM, a second one kills them.
Environment: DEVICE_NUM (processes on this machine, default 8), DEVICE_TARGET (Ascend, GPU or CPU), PYTHON,
LOG_DIR (instead of train_parallel in the project).
With - (msrun) also MASTER_PORT, and for several machines WORKER_NUM (processes of all), NODE_RANK, MASTER_ADDR;
MSRUN_ARGS holds further options of msrun, for example MSRUN_ARGS='--cluster_time_out=300 --bind_core=True'."

DEVICE_NUM=${DEVICE_NUM:-8}
WORKER_NUM=${WORKER_NUM:-$DEVICE_NUM}
OUTPUT=$(absolute "${LOG_DIR:-$ROOT/train_parallel}")

# check_machines TABLE|-
check_machines() {
    need_number DEVICE_NUM "$DEVICE_NUM"
    need_number WORKER_NUM "$WORKER_NUM"
    need_number NODE_RANK "${NODE_RANK:-0}"
    [ "$DEVICE_NUM" -ge 1 ] || refuse 'DEVICE_NUM must be at least 1'
    if [ "$WORKER_NUM" != "$DEVICE_NUM" ]; then
        [ "$1" = - ] || refuse 'several machines (WORKER_NUM) are started with - instead of a rank table'
        [ $((WORKER_NUM % DEVICE_NUM)) = 0 ] || refuse "WORKER_NUM $WORKER_NUM is no multiple of DEVICE_NUM $DEVICE_NUM"
        [ "${NODE_RANK:+set}${MASTER_ADDR:+set}" = setset ] || refuse 'several machines need NODE_RANK and MASTER_ADDR'
    fi
    [ $((${NODE_RANK:-0} * DEVICE_NUM)) -lt "$WORKER_NUM" ] ||
        refuse "NODE_RANK $NODE_RANK is beyond WORKER_NUM $WORKER_NUM with DEVICE_NUM $DEVICE_NUM"
    case " ${MSRUN_ARGS:-}" in
        *' --worker_num'* | *' --local_worker_num'* | *' --node_rank'* | *' --master_'* | *' --log_dir'* | *' --join'*)
            refuse 'MSRUN_ARGS must leave numbers, addresses and logs to WORKER_NUM, NODE_RANK, MASTER_ADDR, LOG_DIR ...' ;;
    esac
}

alive() {
    # A killed process stays a zombie where process 1 of a container does not collect it.
    case $(cat "/proc/$1/stat" 2>/dev/null) in
        '' | *') Z '*) return 1 ;;
    esac
}

started() {
    [ -f "$state/$1.pids" ] && read -r shell training <"$state/$1.pids"
}

ended() {
    started "$1" || return
    ! alive "$shell" || return
    # No line: its shell was killed.
    grep -q "^$1 " "$state/exits" || printf '%s 137\n' "$1" >>"$state/exits"
}

signal_group() {
    kill -s "$1" -- "-$2" 2>/dev/null || :
}

stop_all() {
    [ -z "$msrun" ] || signal_group KILL "$msrun"
    for name in $running $scheduler; do
        if started "$name"; then
            signal_group KILL "$training"
        fi
    done
    # The shells end by themselves, a moment later.
    for name in $running $scheduler; do
        tries=50
        while started "$name" && alive "$shell" && [ "$tries" -gt 0 ]; do
            tries=$((tries - 1))
            sleep 0.1
        done
    done
    [ -z "$msrun" ] || wait "$msrun" 2>/dev/null || :
    running='' scheduler='' msrun=''
}

show_progress() {
    [ -f "$OUTPUT/$first/train.log" ] || return 0
    size=$(wc -c <"$OUTPUT/$first/train.log")
    tail -c "+$((shown + 1))" "$OUTPUT/$first/train.log" | head -c "$((size - shown))"
    shown=$size
}

# fail WHO CODE LOG
fail() {
    stop_all
    show_progress
    # What train.py says of bad input, above the lines that MindSpore writes when a process ends.
    said=$(sed -n 's/.*train\.py: error: //p' "$3" | tail -n 1)
    if [ -n "$said" ]; then
        printf '%s: %s: %s (exit code %s; everything was stopped; %s)\n' "${0##*/}" "$1" "$said" "$2" "$3" >&2
        exit "$2"
    fi
    printf '%s: %s ended with exit code %s; everything was stopped. The end of %s:\n' "${0##*/}" "$1" "$2" "$3" >&2
    tail -n 20 "$3" >&2 || :
    exit "$2"
}

start_with_table() {
    # MindSpore and rank.sh take a process with a role for one that msrun started.
    unset MS_ROLE
    rank=0
    for device in $devices; do
        RANK_TABLE_FILE=$table RANK_ID=$rank RANK_SIZE=$DEVICE_NUM DEVICE_ID=$device sh "$ROOT/scripts/rank.sh" "$@" &
        rank=$((rank + 1))
    done
}

start_with_msrun() {
    # msrun starts whatever PATH calls python.
    cp -- "$ROOT/scripts/rank.sh" "$state/python"
    chmod +x "$state/python"
    unset RANK_TABLE_FILE
    # shellcheck disable=SC2086 # several options in one variable
    PATH=$state:$PATH setsid "$msrun_program" "--worker_num=$WORKER_NUM" "--local_worker_num=$DEVICE_NUM" \
        "--node_rank=${NODE_RANK:-0}" ${MASTER_ADDR:+"--master_addr=$MASTER_ADDR"} \
        ${MASTER_PORT:+"--master_port=$MASTER_PORT"} "--log_dir=$state" --join=False ${MSRUN_ARGS:-} "$@" \
        >"$msrun_log" 2>&1 &
    msrun=$!
}

# Leaves the ranks that have not ended in running, one that has not begun in waiting, and in failed the name and the
# code of the first that failed; the scheduler's failure explains less than a rank's.
look() {
    still='' waiting=''
    for rank in $running; do
        if ended "$rank"; then
            # What it started and left behind.
            signal_group KILL "$training"
        else
            still="$still $rank"
            started "$rank" || waiting=$rank
        fi
    done
    running=$still
    if [ "$scheduler" != gone ] && started scheduler; then
        scheduler=scheduler
        if ended scheduler; then
            signal_group KILL "$training"
            scheduler=gone
        fi
    fi
    failed=$(awk '$2 != 0 && $1 != "scheduler" { print; exit }' "$state/exits")
    [ -n "$failed" ] || failed=$(awk '$2 != 0 { print; exit }' "$state/exits")
}

look_at_msrun() {
    [ -n "$msrun" ] || return 0
    ! alive "$msrun" || return 0
    code=0
    wait "$msrun" || code=$?
    msrun=''
    [ "$code" = 0 ] || fail msrun "$code" "$msrun_log"
}

supervise() {
    patience=30
    forwarded=''
    while look && [ -n "$running" ]; do
        show_progress
        look_at_msrun
        # A rank may have begun since, while the signal came.
        [ "$signals" = 0 ] || look
        if [ "$signals" -gt 1 ] || { [ "$signals" = 1 ] && [ -n "$waiting" ]; }; then
            stop_all
            printf '%s: killed by a signal\n' "${0##*/}" >&2
            exit 143
        fi
        if [ "$signals" = 1 ] && [ -z "$forwarded" ]; then
            forwarded=yes
            printf '%s: signal passed on to the ranks; a second one kills them\n' "${0##*/}" >&2
            for rank in $running; do
                if started "$rank"; then
                    kill -TERM "$training" 2>/dev/null || :
                fi
            done
        fi
        # After a signal the others may still be writing their checkpoints.
        if [ -n "$failed" ]; then
            if [ -z "$forwarded" ] || [ "$patience" = 0 ]; then
                break
            fi
            patience=$((patience - 1))
        elif [ -n "$waiting" ] && [ -z "$msrun" ]; then
            [ "$patience" -gt 0 ] || fail "rank $waiting was not started; msrun" 1 "$msrun_log"
            patience=$((patience - 1))
        fi
        sleep 1
    done
    if [ -n "$failed" ]; then
        case $failed in
            scheduler*) fail scheduler "${failed#* }" "$OUTPUT/scheduler.log" ;;
            *) fail "rank ${failed% *}" "${failed#* }" "$OUTPUT/${failed% *}/train.log" ;;
        esac
    fi
    show_progress
    tries=30
    while [ "$scheduler" = scheduler ] && [ "$tries" -gt 0 ]; do
        tries=$((tries - 1))
        sleep 1
        look
    done
    stop_all
}

# launch TABLE|- FLAG_OF_TRAIN.PY...
launch() {
    table=$1
    shift
    if [ "$table" = - ]; then
        msrun_program=$(dirname -- "$PYTHON")/msrun
        [ -x "$msrun_program" ] || msrun_program=$(command -v msrun) ||
            refuse "there is no msrun beside $PYTHON nor in PATH: install MindSpore there or set PYTHON"
    else
        table=$(absolute "$table")
        # Any Python 3 can read JSON; the one of the training may be slow to start.
        reader=$(command -v python3) || reader=$PYTHON
        devices=$("$reader" "$ROOT/scripts/rank_table.py" "$table" "$DEVICE_NUM") || refuse "$devices"
    fi
    # The ranks work in their own folders.
    for arg do
        case $arg in
            --*=/*) ;;
            --data_path=* | --dataset_path=* | --ckpt_path=* | --*=./* | --*=../*) arg=${arg%%=*}=$PWD/${arg#*=} ;;
        esac
        shift
        set -- "$@" "$arg"
    done

    first=$((${NODE_RANK:-0} * DEVICE_NUM))
    running=''
    rank=$first
    while [ "$rank" -lt $((first + DEVICE_NUM)) ]; do
        running="$running $rank"
        rm -f -- "$OUTPUT/$rank/train.log"
        rank=$((rank + 1))
    done
    mkdir -p -- "$OUTPUT"
    msrun='' scheduler='' shown=0 signals=0
    msrun_log=$OUTPUT/msrun_${NODE_RANK:-0}.log
    state=$(mktemp -d "$OUTPUT/.launch.XXXXXX")
    : >"$state/exits"
    trap 'stop_all; rm -rf -- "$state"' EXIT
    trap 'signals=$((signals + 1))' HUP INT TERM
    # Eight cold compilations and file checks on a network disk take longer than the 120 s that HCCL waits by itself.
    export HCCL_CONNECT_TIMEOUT="${HCCL_CONNECT_TIMEOUT:-600}"
    export PYTHONUNBUFFERED=1 LAUNCH_STATE="$state" LAUNCH_OUTPUT="$OUTPUT" LAUNCH_PYTHON="$PYTHON" LAUNCH_PATH="$PATH"

    if [ "$table" = - ]; then
        start_with_msrun "$ROOT/train.py" "$@"
    else
        start_with_table "$ROOT/train.py" "$@"
    fi
    printf '%s processes; each log is %s/RANK/train.log, here is that of rank %s:\n' "$DEVICE_NUM" "$OUTPUT" "$first"
    supervise
}
