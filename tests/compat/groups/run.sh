#!/usr/bin/env bash
# Consumer groups with confluent-kafka and Apache Kafka's own tools, in a cluster that is started for it
# and killed in between.  usage: run.sh OTTLA
# OTTLA is the binary `ottla`. Installs what it needs into $SUITES_DIR (default: target/suites).
set -euo pipefail
ottla=$(realpath "${1:?usage: run.sh OTTLA}")
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/confluent_kafka
if [ ! -x "$work/venv/bin/python" ]; then
    mkdir -p "$work"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q confluent-kafka
fi
"$here/../java/kafka" fetch >/dev/null || exit $?
"$work/venv/bin/python" "$here/groups.py" "$ottla" "$here/../java/kafka"
exec "$work/venv/bin/python" "$here/protocols.py" "$ottla" "$here/../java/kafka"
