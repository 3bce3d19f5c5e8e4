#!/usr/bin/env bash
# franz-go against a running broker: produce, and consume in groups of both protocols.
# usage: run.sh HOST:PORT
# Needs Go, which fetches and builds into $SUITES_DIR (default: target/suites).
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/go
command -v go >/dev/null || { echo "skipped: no go on the PATH"; exit 77; }
mkdir -p "$work"
work=$(cd "$work" && pwd)
export GOPATH=$work/path GOCACHE=$work/cache GOFLAGS=-modcacherw
(cd "$here" && go build -o "$work/compat" .)
failed=0
for protocol in classic consumer; do
    timeout 120 "$work/compat" "$address" "$protocol" || failed=$((failed + 1))
done
echo "franz-go: $((2 - failed)) passed, $failed failed"
[ "$failed" = 0 ]
