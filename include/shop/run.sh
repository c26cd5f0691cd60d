#!/bin/sh
# One color's container: runs the version that was asked for last, and the next one when another is asked for.
set -eu
color=$1 wanted=/opt/airflow/sessions/wanted.$1
[ -s "$wanted" ] || echo 1.4.0 > "$wanted"
trap 'kill "$app" 2>/dev/null; exit 0' TERM INT
while :; do
  version=$(cat "$wanted")
  python -m demo.app --bind 0.0.0.0 --port 8000 --color "$color" --version "$version" \
    --sessions /opt/airflow/sessions >> "/opt/airflow/sessions/$color.log" 2>&1 &
  app=$!
  while [ "$(cat "$wanted")" = "$version" ] && kill -0 "$app" 2>/dev/null; do sleep 0.5; done
  kill "$app" 2>/dev/null || true
  wait "$app" || sleep 1
done
