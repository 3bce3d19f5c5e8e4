#!/usr/bin/env bash
# Python's confluent-kafka (newest librdkafka) against a running broker.  usage: run.sh HOST:PORT [roundtrip]
# A million records of all codecs; with "roundtrip" groups of both protocols instead.
# Installs what it needs into $SUITES_DIR (default: target/suites). Needs python3 with venv and pip.
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/confluent_kafka
if [ ! -x "$work/venv/bin/python" ]; then
  mkdir -p "$work"
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q confluent-kafka
fi
if [ "${2:-}" = roundtrip ]; then
  for protocol in classic consumer; do
    timeout 120 "$work/venv/bin/python" "$here/roundtrip.py" "$address" "$protocol"
  done
  echo "confluent-kafka in groups: 2 passed, 0 failed"
  exit
fi
exec "$work/venv/bin/python" "$here/exchange.py" "$address" "${RECORDS:-1000000}"
