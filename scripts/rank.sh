#!/bin/sh
# One process of a distributed training: its folder, its log, and a line for distributed.sh on how it ended.
# distributed.sh starts it, or msrun does, which knows a copy of it by the name `python`.
set -eu
PATH=$LAUNCH_PATH
if [ "${MS_ROLE:-}" = MS_SCHED ]; then
    name=scheduler
    log=$LAUNCH_OUTPUT/scheduler.log
    CDPATH='' cd -- "$LAUNCH_OUTPUT"
else
    name=$RANK_ID
    log=$LAUNCH_OUTPUT/$name/train.log
    mkdir -p -- "$LAUNCH_OUTPUT/$name"
    # Compilers write their leftovers to the working folder.
    CDPATH='' cd -- "$LAUNCH_OUTPUT/$name"
    set -- "$@" "--device_id=$DEVICE_ID"
fi
# Cluster managers signal every process they know; this one has to outlive the training to report its end.
trap 'signalled=yes' HUP INT TERM
# A session of its own makes everything the training starts one process group.
setsid "$LAUNCH_PYTHON" "$@" >"$log" 2>&1 &
printf '%s %s\n' "$$" "$!" >"$LAUNCH_STATE/$name.new"
mv -- "$LAUNCH_STATE/$name.new" "$LAUNCH_STATE/$name.pids"
while :; do
    signalled=
    code=0
    # Without dash's remark "Killed" in the launcher's output.
    wait "$!" 2>/dev/null || code=$?
    [ -n "$signalled" ] || break
done
printf '%s %s\n' "$name" "$code" >>"$LAUNCH_STATE/exits"
exit "$code"
