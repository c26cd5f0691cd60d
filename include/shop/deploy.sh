#!/bin/sh
# The command deployer's command in docker-compose.yaml: ask the color's container for another version. The health
# check that follows a deploy waits until it is up, so nothing is waited for here.
set -eu
echo "$VERSION" > "/opt/airflow/sessions/wanted.$COLOR.new"
mv "/opt/airflow/sessions/wanted.$COLOR.new" "/opt/airflow/sessions/wanted.$COLOR"
echo "$COLOR is to run $VERSION"
