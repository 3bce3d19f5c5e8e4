#!/usr/bin/env bash
# What our links print, beside what Apache Kafka's own tools print of the same cluster of Ottla: output,
# errors and exit code, one call after the other, with one broker and with three. Differences must be
# named in allowed.tsv with a reason. usage: run.sh OTTLA [KEEP]  OTTLA: the binary; KEEP: a folder for outputs
set -euo pipefail
ottla=$(realpath "${1:?usage: run.sh OTTLA [KEEP]}")
here=$(cd "$(dirname "$0")" && pwd)
kafka=$here/../java/kafka
work=$(mktemp -d)
keep=${2:-$work/keep}
pids=()
stop() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    pids=()
}
trap 'stop; rm -rf "$work"' EXIT
"$kafka" fetch >/dev/null || exit $?
export KAFKA_TIER=1 KAFKA_HEAP_OPTS=-Xmx256M
mkdir -p "$keep"
"$ottla" kafka-links "$work/links" >/dev/null

grep -v '^#' "$here/allowed.tsv" | grep . >"$work/allowed" || true
if grep -vP '^[^\t]+\t+\S' "$work/allowed"; then echo "allowed.tsv: without a reason"; exit 1; fi
equal=0 explained=0 refused=0

link() { timeout 60 "$work/links/kafka-$1.sh" "${@:2}"; }
real() { timeout 60 "$kafka" "$@"; }

# Takes out what a moment later is another number, log lines and traces of Java, and how long runs of
# blanks and tabs are (the real tools fill up to the widest of columns that are not shown as well).
shown() { # KIND of output
    sed -E -e '/^\[[0-9-]{10} [0-9:,]{12}\] (INFO|WARN|ERROR)/d' \
        -e '/^org\.apache\.kafka\.common\.errors\./d' -e '/^\tat /d' \
        -e 's/^((High|Low)Watermark|LeaderEpoch|MaxFollowerLag|MaxFollowerLagTimeMs):.*/\1: N/' \
        -e '/^\t?(Caused by: |Suppressed: |java\.util\.concurrent\.)/d' -e '/^ \(org\.apache\.kafka\.tools\./d' \
        -e 's/[0-9]+ ms ago/N ms ago/g' -e 's/\b1[78][0-9]{11}\b/TIME/g' -e 's/[ \t]+/ /g' -e 's/ $//' |
        if [ "$1" = unordered ]; then sort; else cat; fi
}
told() { # SIDE KIND ARGS...
    local code=0
    "$1" "${@:3}" >"$work/out" 2>"$work/err" || code=$?
    shown "$2" <"$work/out"
    shown "$2" <"$work/err" | sed -e '/^org\.apache\.kafka\.tools\.AdminCommandFailedException: /d' -e '/^$/d' -e 's/^/stderr: /'
    [ "$code" = 0 ] || echo "exit code $code"
}
check() { # KIND NAME ARGS...
    local name="$2" file="$keep/$brokers ${2//\//_}"
    told real "$1" "${@:3}" >"$file.kafka"
    told link "$1" "${@:3}" >"$file.ottla"
    if cmp -s "$file.kafka" "$file.ottla"; then
        equal=$((equal + 1))
        grep -qP "^\Q$name\E\t" "$work/allowed" || return 0
        echo "allowed but not seen: $name"
        refused=$((refused + 1))
    elif grep -qP "^\Q$name\E\??\t" "$work/allowed"; then
        explained=$((explained + 1))
    else
        refused=$((refused + 1))
        echo "$name, $brokers brokers (< Kafka's tool, > our link)"
        diff "$file.kafka" "$file.ottla" | sed 's/^/    /' || true
    fi
}
ordered() { check ordered "$1" "${@:2}"; }
unordered() { check unordered "$1" "${@:2}"; }

until_shown() { # TEXT ARGS... of a link
    for _ in $(seq 150); do
        ! link "${@:2}" 2>&1 | grep -q "$1" || return 0
        sleep 0.2
    done
    echo "waited in vain for $1 in ${*:2}"
    exit 1
}

begin() { # starts $brokers brokers, two topics, records, groups with and without members
    "$ottla" dev --json --dir "$work/$brokers" --port 0 --coordinator-port 0 --brokers "$brokers" \
        >"$work/ready" 2>"$keep/ottla-$brokers.log" &
    pids+=($!)
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.2; done
    address=$(sed -n 's/.*"1": *"\([^"]*\)".*/\1/p' "$work/ready" | head -1)
    [ -n "$address" ] || { echo "ottla dev was not ready within 20 seconds"; exit 1; }
    at=(--bootstrap-server "$address")
    link topics "${at[@]}" --create --topic links-a --partitions 3 --config retention.ms=86400000 \
        --replication-factor $((brokers > 1 ? 2 : 1)) >/dev/null
    link topics "${at[@]}" --create --topic links.b --partitions 1 --replication-factor 1 >/dev/null 2>&1
    seq 6 | link console-producer "${at[@]}" --topic links-a >/dev/null
    seq 4 | link console-producer "${at[@]}" --topic links.b >/dev/null
    link console-consumer "${at[@]}" --topic links.b --group empty --from-beginning --max-messages 4 >/dev/null 2>&1
    for protocol in classic consumer; do
        "$kafka" console-consumer "${at[@]}" --topic links-a --group "live-$protocol" --from-beginning \
            --command-property "group.protocol=$protocol" >/dev/null 2>"$work/live-$protocol" &
        pids+=($!)
    done
    "$kafka" console-consumer "${at[@]}" --topic links.b --group fixed --command-property group.instance.id=first \
        >/dev/null 2>"$work/fixed" &
    pids+=($!)
    for group in live-classic live-consumer fixed; do
        until_shown Stable consumer-groups "${at[@]}" --describe --group $group --state
        until_shown " 0  *[^ ]\{20\}" consumer-groups "${at[@]}" --describe --group $group
    done
}

groups() {
    unordered "consumer-groups list" consumer-groups "${at[@]}" --list
    unordered "consumer-groups list, state" consumer-groups "${at[@]}" --list --state
    unordered "consumer-groups list, type" consumer-groups "${at[@]}" --list --type
    unordered "consumer-groups list, empty" consumer-groups "${at[@]}" --list --state Empty
    for group in empty live-classic live-consumer fixed; do
        for flags in "" --members "--members --verbose" --offsets "--offsets --verbose" --state "--state --verbose"; do
            # shellcheck disable=SC2086
            ordered "consumer-groups describe $group $flags" consumer-groups "${at[@]}" --describe --group $group $flags
        done
    done
    unordered "consumer-groups describe all" consumer-groups "${at[@]}" --describe --all-groups
    ordered "consumer-groups describe nowhere" consumer-groups "${at[@]}" --describe --group nowhere
    for to in --to-earliest --to-latest --to-current "--to-offset 2" "--shift-by -1" "--by-duration P1D" \
        "--to-datetime 2020-01-01T00:00:00.000"; do
        # shellcheck disable=SC2086
        ordered "consumer-groups reset $to" consumer-groups "${at[@]}" --reset-offsets --group empty --all-topics $to --dry-run
    done
    ordered "consumer-groups reset, one" consumer-groups "${at[@]}" --reset-offsets --group empty --topic links-a:0 --to-latest --dry-run
    ordered "consumer-groups reset, export" consumer-groups "${at[@]}" --reset-offsets --group empty --topic links-a:0,1 --to-latest --dry-run --export
    ordered "consumer-groups reset, in use" consumer-groups "${at[@]}" --reset-offsets --group live-classic --topic links-a --to-latest --dry-run
    ordered "consumer-groups delete, in use" consumer-groups "${at[@]}" --delete --group live-classic
    ordered "consumer-groups delete nowhere" consumer-groups "${at[@]}" --delete --group nowhere
    ordered "consumer-groups delete-offsets, in use" consumer-groups "${at[@]}" --delete-offsets --group live-classic --topic links-a
    unordered "groups list" groups "${at[@]}" --list
    unordered "groups list, consumer" groups "${at[@]}" --list --consumer
    unordered "groups list, type" groups "${at[@]}" --list --group-type classic
    unordered "groups list, protocol" groups "${at[@]}" --list --protocol consumer
}

partitions() {
    for flags in "--topic links-a" "--topic links.b" "--under-replicated-partitions" "--unavailable-partitions" \
        "--topics-with-overrides" "--at-min-isr-partitions" "--topic nowhere"; do
        # shellcheck disable=SC2086
        unordered "topics describe $flags" topics "${at[@]}" --describe $flags
    done
    ordered "topics list" topics "${at[@]}" --list
    for flags in "" "--topic links-a" "--topic links.*" "--topic links-a --partitions 1,2" "--topic-partitions links-a:0,links.b" \
        "--topic links-a --time earliest" "--topic links-a --time -1" "--topic links-a --time max-timestamp" \
        "--topic links-a --time 0" "--topic links-a --time 4000000000000" "--topic nowhere" "--exclude-internal-topics"; do
        # shellcheck disable=SC2086
        ordered "get-offsets $flags" get-offsets "${at[@]}" $flags
    done
    ordered "log-dirs, a topic" log-dirs "${at[@]}" --describe --topic-list links.b
    ordered "log-dirs, a broker" log-dirs "${at[@]}" --describe --broker-list 1 --topic-list links.b
    ordered "log-dirs, no such broker" log-dirs "${at[@]}" --describe --broker-list 9
    local file="$work/moves.json"
    echo '{"version":1,"partitions":[{"topic":"links.b","partition":0,"replicas":[1],"log_dirs":["any"]}]}' >"$file"
    ordered "reassign-partitions verify" reassign-partitions "${at[@]}" --verify --reassignment-json-file "$file" --preserve-throttles
    ordered "reassign-partitions verify, throttles" reassign-partitions "${at[@]}" --verify --reassignment-json-file "$file"
    ordered "reassign-partitions list" reassign-partitions "${at[@]}" --list
    echo '{"partitions":[{"topic":"links-a","partition":0,"offset":1},{"topic":"links.b","partition":0,"offset":2}],"version":1}' >"$file"
    unordered "delete-records" delete-records "${at[@]}" --offset-json-file "$file"
    echo '{"partitions":[{"topic":"links.b","partition":0,"offset":999}],"version":1}' >"$file"
    ordered "delete-records, beyond the end" delete-records "${at[@]}" --offset-json-file "$file"
    ordered "leader-election, all" leader-election "${at[@]}" --election-type preferred --all-topic-partitions
    ordered "leader-election, one" leader-election "${at[@]}" --election-type preferred --topic links.b --partition 0
    ordered "leader-election, unclean" leader-election "${at[@]}" --election-type unclean --topic links.b --partition 0
    ordered "leader-election, nowhere" leader-election "${at[@]}" --election-type preferred --topic nowhere --partition 0
}

cluster() {
    unordered "features describe" features "${at[@]}" describe
    ordered "cluster id" cluster cluster-id "${at[@]}"
    unordered "cluster endpoints" cluster list-endpoints "${at[@]}"
    ordered "metadata-quorum status" metadata-quorum "${at[@]}" describe --status
    unordered "metadata-quorum replication" metadata-quorum "${at[@]}" describe --replication --human-readable
    unordered "configs, a topic" configs "${at[@]}" --describe --entity-type topics --entity-name links-a
    unordered "configs, a topic, all" configs "${at[@]}" --describe --entity-type topics --entity-name links-a --all
    unordered "configs, a broker" configs "${at[@]}" --describe --entity-type brokers --entity-name 1
}

for brokers in ${BROKERS:-1 3}; do
    begin
    for part in ${PARTS:-groups partitions cluster}; do "$part"; done
    stop
done
echo "$equal calls equal, $explained allowed differences, $refused not allowed"
[ "$refused" = 0 ]
