#!/usr/bin/env bash
# Apache Kafka's own tools, with the client library of 4.4, against a running broker.
# usage: run.sh HOST:PORT DATA_FOLDER     A broker, or a coordinator, which tells of the brokers. DATA_FOLDER holds the broker's logs; dump-log reads them.
set -u
address=${1:?usage: run.sh HOST:PORT DATA_FOLDER}
data=${2:?usage: run.sh HOST:PORT DATA_FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
topic=java$RANDOM passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/kafka" fetch >/dev/null || exit $?

tool() { # NAME ARGS...
    KAFKA_TIER=1 timeout 90 "$here/kafka" "$1" --bootstrap-server "$address" "${@:2}" 2>"$work/stderr"
}
check() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $1: got [$2], want [$3]"
        sed 's/^/    /' "$work/stderr" | tail -5
    fi
}
squeeze() { tr -s '\t ' ' ' | sed 's/TopicId: [^ ]*/TopicId: ID/; s/ *$//'; }

check "topics --create" "$(tool topics --create --topic "$topic" --partitions 3 --replication-factor 1)" \
    "Created topic $topic."
check "topics --create again" "$(tool topics --create --topic "$topic" 2>&1 | grep -c 'already exists')" 1
check "topics --list" "$(tool topics --list | grep -cx "$topic")" 1
check "topics --describe" "$(tool topics --describe --topic "$topic" | squeeze | head -2 | tail -1)" \
    " Topic: $topic Partition: 0 Leader: 1 Replicas: 1 Isr: 1 Elr: LastKnownElr:"
check "topics --alter" "$(tool topics --alter --topic "$topic" --partitions 4; tool topics --describe --topic "$topic" | grep -c 'Partition: ')" 4

check "configs --alter" "$(tool configs --alter --entity-type topics --entity-name "$topic" --add-config retention.ms=86400000,segment.bytes=1048576)" \
    "Completed updating config for topic $topic."
check "configs --describe" "$(tool configs --describe --entity-type topics --entity-name "$topic" | grep -o '^  [^ ]*' | sort | tr -d '\n')" \
    "  retention.ms=86400000  segment.bytes=1048576"
check "configs --delete-config" "$(tool configs --alter --entity-type topics --entity-name "$topic" --delete-config retention.ms)" \
    "Completed updating config for topic $topic."
check "configs of the broker" "$(tool configs --describe --all --entity-type brokers --entity-name 1 | grep -c '^ *num.partitions=')" 1

seq 1 1000 | sed 's/.*/&:value &/' >"$work/lines"
tool console-producer --topic "$topic" --reader-property parse.key=true --reader-property key.separator=: \
    --compression-codec zstd <"$work/lines" >/dev/null
for partition in 0 1 2 3; do
    tool console-consumer --topic "$topic" --partition $partition --offset earliest --timeout-ms 3000 \
        --formatter-property print.key=true --formatter-property key.separator=:
done | sort -t: -k1n >"$work/read"
check "console producer and consumer" "$(md5sum <"$work/read")" "$(md5sum <"$work/lines")"
check "get-offsets" "$(tool get-offsets --topic "$topic" --time latest | cut -d: -f3 | paste -sd+ | bc)" 1000
check "get-offsets by time" "$(tool get-offsets --topic-partitions "$topic:0" --time 1 | cut -d: -f3)" 0

echo "{\"partitions\":[{\"topic\":\"$topic\",\"partition\":0,\"offset\":10}],\"version\":1}" >"$work/delete"
check "delete-records" "$(tool delete-records --offset-json-file "$work/delete" | grep -c 'low_watermark: 10')" 1
check "get-offsets after it" "$(tool get-offsets --topic-partitions "$topic:0" --time earliest | cut -d: -f3)" 10

for acks in 1 all; do
    check "producer-perf-test, acks=$acks" "$(KAFKA_TIER=1 timeout 120 "$here/kafka" producer-perf-test --topic "$topic" \
        --num-records 50000 --record-size 1000 --throughput -1 --producer-props "bootstrap.servers=$address" "acks=$acks" \
        2>"$work/stderr" | tail -1 | grep -c '^50000 records sent')" 1
done

check "log-dirs" "$(tool log-dirs --describe --topic-list "$topic" | tail -1 | grep -o "\"partition\":\"$topic-[0-9]*\"" | wc -l)" 4
check "cluster cluster-id" "$(KAFKA_TIER=1 "$here/kafka" cluster cluster-id --bootstrap-server "$address" | grep -c 'Cluster ID: ')" 1
check "broker-api-versions" "$(tool broker-api-versions | grep -c 'Produce(0): 0 to 13 \[usable: 13\]')" 1

files=$(ls "$data/$topic-0"/*.log "$data/$topic-0"/*.index "$data/$topic-0"/*.timeindex 2>/dev/null | paste -sd,)
KAFKA_TIER=1 timeout 90 "$here/kafka" dump-log --deep-iteration --files "$files" >"$work/dump" 2>"$work/stderr"
check "dump-log --deep-iteration" "$? $(grep -ciE 'mismatch|corrupt|isvalid: false|invalid|out of order' "$work/dump")" "0 0"
check "dump-log: records there" "$(test "$(grep -c '^| offset:' "$work/dump")" -gt 10000 && echo yes)" yes

check "topics --delete" "$(tool topics --delete --topic "$topic"; tool topics --list | grep -cx "$topic")" 0
echo "java tools: $passed passed, $failed failed"
[ "$failed" = 0 ]
