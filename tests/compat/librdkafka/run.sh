#!/usr/bin/env bash
# librdkafka 2.12.1's own test-runner against three brokers that are started for it: its default scenario,
# one entry a process.  usage: run.sh OTTLA [ENTRY…]
# OTTLA is the binary `ottla`; ENTRY is a number, such as 0011. Without any, all entries that need a broker
# and neither transactions nor security. The sources ship in the crate rdkafka-sys; needs cmake, make, a C
# and a C++ compiler, zlib's headers. Built once, in $SUITES_DIR (default: target/suites).
# JOBS entries run at a time (default 1). Exits with 1 if an entry outside `known` fails.
set -uo pipefail
ottla=$(realpath "${1:?usage: run.sh OTTLA [ENTRY…]}")
shift
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${SUITES_DIR:-$here/../../../target/suites}/librdkafka/fetch/src"
work=$(cd "${SUITES_DIR:-$here/../../../target/suites}/librdkafka" && pwd)
# Transactions, TLS, SASL, ACLs; what runs against a mock of its own although it is not marked as local;
# and what belongs to the scenario without automatic creation.
left_out="0097 0098 0103 0115 0119 0126 0129 0135 0139 0142 0150 0107 0111"
known=$(grep -oE '^[0-9]{4}' "$here/known.txt" 2>/dev/null)

source_folder() {
    cd "$work/fetch" || return 1
    printf '%s\n' '[package]' 'name = "fetch"' 'version = "0.0.0"' 'edition = "2021"' '[workspace]' \
        '[dependencies]' 'rdkafka-sys = "=4.10.0"' >Cargo.toml
    : >src/lib.rs
    cargo metadata --quiet --format-version 1 |
        grep -o '"manifest_path":"[^"]*/rdkafka-sys-4.10.0[^"/]*/Cargo.toml"' | cut -d'"' -f4 |
        sed 's,Cargo.toml$,librdkafka,'
}

build() {
    [ -x "$work/build/tests/test-runner" ] && return 0
    local source
    source=$(source_folder)
    [ -d "$source" ] || { echo "the crate rdkafka-sys 4.10.0 could not be fetched"; return 1; }
    rm -rf "$work/source"
    cp -r "$source" "$work/source" && chmod -R u+w "$work/source"
    cmake -S "$work/source" -B "$work/build" -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_C_FLAGS_DEBUG=-O0 -fmacro-prefix-map=$work/source/tests/=" \
        -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DRDKAFKA_BUILD_TESTS=ON -DRDKAFKA_BUILD_EXAMPLES=OFF \
        -DWITH_SSL=OFF -DWITH_CURL=OFF -DWITH_SASL=OFF -DWITH_ZSTD=OFF -DENABLE_LZ4_EXT=OFF \
        >"$work/build.log" 2>&1 || { tail -20 "$work/build.log"; return 1; }
    # It is asked for with #ifdef, and 0 is defined, too.
    sed -i '/WITH_OAUTHBEARER_OIDC/d' "$work/build/generated/config.h"
    nice make -C "$work/build" -j2 test-runner >>"$work/build.log" 2>&1 ||
        { tail -20 "$work/build.log"; return 1; }
}

# The numbers of the entries in test.c that are not marked as local, manual or of another scenario.
entries() {
    awk '/^struct test tests\[\]/ { on = 1 } /Manual tests/ { on = 0 } on' "$1/tests/test.c" |
        tr '\n' ' ' | sed 's/_TEST(/\n/g' | grep -E '^[0-9]{4}_' |
        grep -vE 'TEST_F_LOCAL|TEST_F_KNOWN_ISSUE,|TEST_F_KNOWN_ISSUE\)' |
        grep -oE '^[0-9]{4}' | sort -u | grep -vE "^(${left_out// /|})$"
}

did_something() { # NUMBER
    grep -aoE "$1[a-z0-9_]*: duration [0-9.]+ms" "$1.log" | sed 's/.*duration //; s/ms//' |
        awk '$1 > most { most = $1 } END { exit !(most >= 5) }'
}

run_entry() { # NUMBER, in the folder of test.conf
    local began=$SECONDS status
    TESTS=$1 TEST_KAFKA_VERSION=4.0.0 timeout 240 "$runner" -L -E -p1 >"$1.log" 2>&1
    status=$?
    case $status in
    # A test may leave out everything that it has: that shows nothing.
    0) status=passed; did_something "$1" || status=empty ;;
    124) status="failed: 240 s are over" ;;
    *) status="failed: $(grep -aoE 'TEST FAILURE.*|.*FAILED.*|.*Assertion.*' "$1.log" | head -1 | cut -c1-90)" ;;
    esac
    echo "$1 $((SECONDS - began)) s $status"
}

build || exit 1
source=$work/source
export runner=$work/build/tests/test-runner
export -f run_entry did_something
data=$(mktemp -d)
"$ottla" dev --brokers 3 --coordinators 3 --json --dir "$data/cluster" --port 0 --coordinator-port 0 \
    --config num.partitions=4 --config default.replication.factor=3 >"$data/ready" 2>"$data/log" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null; rm -rf "$data/cluster"' EXIT
for _ in $(seq 300); do [ -s "$data/ready" ] && break; sleep 0.1; done
brokers=$(sed 's/.*"brokers":{\([^}]*\)}.*/\1/' "$data/ready" | grep -oE '[0-9.]+:[0-9]+' | paste -sd,)
[ -n "$brokers" ] || { echo "waited 30 s in vain for three brokers"; cat "$data/log"; exit 1; }
# Some entries call Kafka's tools, for which the links with their names stand in.
"$ottla" kafka-links "$data/kafka/bin" >/dev/null
export KAFKA_PATH=$data/kafka BROKERS=$brokers
cd "$data" || exit 1
printf '%s\n' "bootstrap.servers=$brokers" "test.topic.random=true" >test.conf
echo "logs of the entries: $data"
if [ $# -gt 0 ]; then printf '%s\n' "$@"; else entries "$source"; fi |
    xargs -P "${JOBS:-1}" -I{} bash -c 'run_entry {}' | tee table
passed=$(grep -c ' s passed' table)
bad=$(grep ' s failed' table | cut -c1-4 | grep -vxF "${known:-none}")
echo "librdkafka: $passed passed, $(grep -c ' s failed' table) failed, $(grep -c ' s empty' table) empty (nothing done) of $(wc -l <table)"
[ -z "$bad" ]
