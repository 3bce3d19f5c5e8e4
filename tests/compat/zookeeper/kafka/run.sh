#!/usr/bin/env bash
# An Apache Kafka 3.9 broker that keeps its metadata in ZooKeeper, on a running server or ensemble.
# usage: run.sh HOST:PORT[,HOST:PORT...]
#        run.sh DIR      servers that `zookeeper start N DIR` started: their leader is killed with -9, and
#                        the broker must go on in the session that it has, and make topics again
set -uo pipefail
servers=${1:?usage: run.sh HOST:PORT[,...] | DIR}
here=$(cd "$(dirname "$0")" && pwd)
zookeeper=$here/../zookeeper
work=$(mktemp -d)
passed=0 failed=0
jars=$("$zookeeper" libs "$here/../kafka-pom.xml") || exit $?
broker=""
trap '[ -n "$broker" ] && kill -9 "$broker" 2>/dev/null; rm -rf "$work"' EXIT

address=$servers
if [ -d "$servers" ]; then
    address=$(sed -n 's/^clientPort=/127.0.0.1:/p' "$servers"/*/zoo.cfg | paste -sd,)
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

check() { # NAME GOT WANT
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $1: got [$2], want [$3]"
        tail -q -n 3 "$work/stderr" "$work/broker.log" 2>/dev/null | sed 's/^/    /'
    fi
}

tool() { # CLASS ARGS...
    timeout 60 java -Xmx256m -XX:TieredStopAtLevel=1 -Dlog4j.configuration="file:$here/log4j-tools.properties" \
        -cp "$jars/*" "$1" --bootstrap-server "127.0.0.1:$port" "${@:2}" 2>>"$work/stderr"
}
topics() { tool org.apache.kafka.tools.TopicCommand "$@"; }
configs() { tool kafka.admin.ConfigCommand "$@"; }
# The shell tells of its connection from another thread, before its answer or behind it.
zk() { "$zookeeper" cli "$address" "$@" 2>/dev/null | grep -Ev '^(WATCHER::|WatchedEvent .*)?$' | tail -1; }

start_broker() {
    : >"$work/broker.log"
    java -Xmx512m -XX:TieredStopAtLevel=1 -Dlog4j.configuration="file:$here/log4j.properties" \
        -cp "$jars/*" kafka.Kafka "$work/server.properties" >"$work/broker.log" 2>&1 </dev/null &
    broker=$!
    for _ in $(seq 600); do
        grep -q 'started (kafka.server.KafkaServer)' "$work/broker.log" && return
        kill -0 "$broker" 2>/dev/null || break
        sleep 0.1
    done
    echo "the broker did not start:"
    grep -E 'ERROR|FATAL|Exception' -A5 "$work/broker.log" | head -40
    exit 1
}

stop_broker() {
    kill "$broker"
    wait "$broker" 2>/dev/null
    broker=""
}

exchange() { # TOPIC FIRST LAST: produces lines and reads them back
    seq "$2" "$3" | tool kafka.tools.ConsoleProducer --topic "$1" --producer-property acks=all
    tool org.apache.kafka.tools.consumer.ConsoleConsumer --topic "$1" --from-beginning --max-messages $(($3 - $2 + 1)) \
        --group "group-$1" --timeout-ms 30000 | sort -n | uniq | wc -l | tr -d ' '
}

cat >"$work/server.properties" <<END
broker.id=1
listeners=PLAINTEXT://127.0.0.1:$port
log.dirs=$work/data
zookeeper.connect=$address/kafka
zookeeper.session.timeout.ms=18000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
authorizer.class.name=kafka.security.authorizer.AclAuthorizer
allow.everyone.if.no.acl.found=true
END
start_broker
check "broker registered" "$(zk ls /kafka/brokers/ids)" "[1]"
check "topic created" "$(topics --create --topic one --partitions 3 --replication-factor 1)" "Created topic one."
check "produced and consumed" "$(exchange one 1 500)" 500
check "topic's config changed" "$(configs --alter --entity-type topics --entity-name one --add-config retention.ms=86400000)" \
    "Completed updating config for topic one."
check "broker's config changed" "$(configs --alter --entity-type brokers --entity-name 1 --add-config log.cleaner.threads=2)" \
    "Completed updating config for broker 1."
check "partitions added" "$(topics --alter --topic one --partitions 5; topics --describe --topic one | grep -c 'Partition: ')" 5
tool kafka.admin.AclCommand --add --allow-principal User:alice --operation Read --topic secret >/dev/null
check "access rule added" "$(zk get /kafka/kafka-acl/Topic/secret | grep -c User:alice)" 1
topics --create --topic gone --partitions 2 --replication-factor 1 >/dev/null
topics --delete --topic gone
for _ in $(seq 50); do [ "$(zk ls /kafka/admin/delete_topics)" = "[]" ] && break; sleep 0.2; done
check "topic deleted" "$(topics --list | grep -v '^__' | paste -sd' ')" one

stop_broker
check "broker's node gone after it stopped" "$(zk ls /kafka/brokers/ids)" "[]"
start_broker
check "restarted: topic's config is there" "$(configs --describe --entity-type topics --entity-name one | grep -o 'retention.ms=[0-9]*' | head -1)" \
    "retention.ms=86400000"
check "restarted: produced and consumed" "$(exchange one 501 600)" 100

if [ -d "$servers" ] && [ "$(ls -d "$servers"/*/ | wc -l)" -gt 1 ]; then
    for round in 1 2 3; do
        leader=$("$zookeeper" leader "$servers") || { check "leader, round $round" none one; break; }
        kill -9 "$(cat "$servers/$leader/pid")"
        check "topic created without the old leader, round $round" \
            "$(topics --create --topic "after-$round" --partitions 2 --replication-factor 1)" "Created topic after-$round."
        check "produced and consumed without it, round $round" "$(exchange "after-$round" 1 100)" 100
        "$zookeeper" restart "$servers" "$leader"
    done
    check "sessions expired" "$(grep -c 'Session expired' "$work/broker.log")" 0
fi
stop_broker
check "nothing went wrong in the broker" "$(grep -E '^\[[^]]*\] (ERROR|FATAL)' "$work/broker.log" | head -3)" ""
echo "Kafka 3.9 on ZooKeeper's protocol: $passed passed, $failed failed"
[ "$failed" = 0 ]
