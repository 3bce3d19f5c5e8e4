#!/usr/bin/env bash
# What the calls of Kafka's Admin come to on an Apache Kafka 4.4.0 and on Ottla, call by call. Starts both,
# each fresh and with two log directories.
# usage: run.sh OTTLA [KEEP]     OTTLA: the binary; KEEP: a folder for the two dumps
set -euo pipefail
ottla=${1:?usage: run.sh OTTLA [KEEP]}
here=$(cd "$(dirname "$0")" && pwd)
kafka=$here/../java/kafka
work=$(mktemp -d)
keep=${2:-$work}
pid=
stop() {
    [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null || true
    "$kafka" stop "$work/kafka" 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
"$kafka" fetch >/dev/null || exit $?
mkdir -p "$keep"
export KAFKA_TIER=1

is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=$((RANDOM % 9000 + 11000))
while is_taken "$port" || is_taken "$((port + 10000))"; do port=$((port + 1)); done
dump() { timeout 240 "$kafka" source "$here/AdminCalls.java" dump "$1"; }

"$kafka" start "$port" "$work/kafka" "log.dirs=$work/kafka/data,$work/kafka/more" >/dev/null
dump "127.0.0.1:$port" >"$keep/kafka.tsv"
"$kafka" stop "$work/kafka"

"$ottla" dev --json --dir "$work/ottla" --port 0 --coordinator-port 0 \
    --config "log.dirs=$work/one,$work/two" >"$work/ready" 2>"$keep/ottla.log" &
pid=$!
for _ in $(seq 100); do
    [ -s "$work/ready" ] && break
    sleep 0.2
done
address=$(sed -n 's/.*"1": *"\([^"]*\)".*/\1/p' "$work/ready" | head -1)
[ -n "$address" ] || { echo "ottla dev was not ready within 20 seconds"; cat "$keep/ottla.log"; exit 1; }
dump "$address" >"$keep/ottla.tsv"
"$kafka" source "$here/AdminCalls.java" compare "$keep/kafka.tsv" "$keep/ottla.tsv" "$here/allowed.tsv"
