#!/usr/bin/env bash
# Quix Streams' word count against a running broker, at least once.  usage: run.sh HOST:PORT
# Installs Quix Streams from PyPI into $SUITES_DIR (default: target/suites). Needs python3 with venv and pip.
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/quix
if ! "$work/venv/bin/python" -c "import quixstreams" 2>/dev/null; then
    mkdir -p "$work"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install -q quixstreams
fi
timeout 240 "$work/venv/bin/python" "$here/word_count.py" "$address"
