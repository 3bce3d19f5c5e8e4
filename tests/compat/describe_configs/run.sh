#!/usr/bin/env bash
# DescribeConfigs of a running broker against that of a real Kafka, key by key.
# usage: run.sh HOST:PORT     The broker's settings are changed and changed back.
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
kafka=$here/../java/kafka
work=$(mktemp -d)
trap '"$kafka" stop "$work/kafka" 2>/dev/null || true; rm -rf "$work"' EXIT
"$kafka" fetch >/dev/null || exit $?

# Another port than the one in the answers that are kept, for that one may be taken.
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((RANDOM % 9000 + 11000))
while is_taken "$port" || is_taken "$((port + 10000))"; do port=$((port + 1)); done
KAFKA_PLAIN=1 "$kafka" start "$port" "$work/kafka" >/dev/null
export KAFKA_TIER=1
dump() { "$kafka" source "$here/DescribeConfigs.java" dump "$1"; }
dump "127.0.0.1:$port" |
    sed "s#$work/kafka/data#/data#g; s/127.0.0.1:$((port + 10000))/127.0.0.1:19292/g; s/127.0.0.1:$port/127.0.0.1:9292/g" \
        >"$work/kafka.tsv"
diff -u "$here/kafka-4.4.0.tsv" "$work/kafka.tsv" || { echo "a real Kafka answers otherwise than was kept"; exit 1; }
dump "$address" >"$work/ottla.tsv"
"$kafka" source "$here/DescribeConfigs.java" compare "$work/kafka.tsv" "$work/ottla.tsv" "$here/allowed.tsv"
