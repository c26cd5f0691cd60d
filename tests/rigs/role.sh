#!/bin/sh
# A part of a service that runs on one color only: a real process, which `role.sh start|stop FOLDER` begins and ends.
# The file ROLE-COLOR.stuck in the folder makes it one that does not stop.
set -eu
name="$2/$ROLE-$COLOR"
runs() { [ -f "$name.pid" ] && kill -0 "$(cat "$name.pid")" 2>/dev/null; }

echo "$1 $ROLE on $COLOR ${VERSION:-?} for $RELEASE at $EPOCH" | tee -a "$2/roles.log"
case "$1" in
  start)
    runs && exit 0
    setsid sleep 600 </dev/null >/dev/null 2>&1 &
    echo $! >"$name.pid"
    ;;
  stop)
    [ ! -e "$name.stuck" ] || { echo "$ROLE does not listen"; exec sleep 600; }
    if runs; then kill "$(cat "$name.pid")"; fi
    rm -f "$name.pid"
    ;;
esac
