#!/usr/bin/env bash
# Kafka's own client, librdkafka and franz-go write and read while brokers and coordinators are restarted
# one after the other: no error may reach the application, and what was acknowledged is read.
# usage: run.sh FOLDER      with `ottla`, `ottla-broker` and `ottla-coordinator`
# Needs a JDK with mvn, python3 with venv, and Go; keeps what it fetches in $SUITES_DIR (default: target/suites).
set -euo pipefail
binaries=$(realpath "${1:?usage: run.sh FOLDER}")
here=$(cd "$(dirname "$0")" && pwd)
suites=${SUITES_DIR:-$here/../../../../target/suites}
work=$suites/rolling
mkdir -p "$work"
work=$(cd "$work" && pwd)
kafka=$here/../../java/kafka
"$kafka" fetch >/dev/null
venv=$suites/confluent_kafka/venv
[ -x "$venv/bin/python" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q confluent-kafka; }
(cd "$here" && GOPATH=$suites/go/path GOCACHE=$suites/go/cache GOFLAGS=-modcacherw go build -o "$work/client" .)
exec python3 "$here/rolling.py" "$binaries" \
    "java=$kafka source $here/Client.java" \
    "librdkafka=$venv/bin/python $here/client.py" \
    "franz-go=$work/client"
