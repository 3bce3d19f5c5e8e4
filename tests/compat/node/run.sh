#!/usr/bin/env bash
# kafkajs against a running broker: produce, and consume in a group (it knows the classic protocol alone).
# usage: run.sh HOST:PORT
# Needs node and npm, which fetches kafkajs into $SUITES_DIR (default: target/suites).
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/node
command -v npm >/dev/null || { echo "skipped: no npm on the PATH"; exit 77; }
mkdir -p "$work"
cp "$here/package.json" "$here/roundtrip.js" "$work"
cd "$work"
[ -d node_modules/kafkajs ] || npm install --silent --no-audit --no-fund
KAFKAJS_NO_PARTITIONER_WARNING=1 timeout 150 node roundtrip.js "$address"
