#!/usr/bin/env bash
# Apache Kafka's tools for replicas, and its consumer, on three brokers in three racks that are started
# for it.  usage: run.sh FOLDER      with `ottla`, `ottla-broker` and `ottla-coordinator`
set -euo pipefail
binaries=$(realpath "${1:?usage: run.sh FOLDER}")
here=$(cd "$(dirname "$0")" && pwd)
"$here/../java/kafka" fetch >/dev/null || exit $?
exec python3 "$here/tools.py" "$binaries" "$here/../java/kafka" "${@:2}"
