#!/bin/bash
# record.sh NAME [KEY=VALUE]…: writes tests/records/NAME.json, for docs/trust.md: what a target has
# found out, and on which commit.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
shift
mkdir -p tests/records
{
    echo "{"
    for pair in "$@"; do printf '  "%s": "%s",\n' "${pair%%=*}" "${pair#*=}"; done
    printf '  "commit": "%s"\n}\n' "$(git describe --always --dirty --exclude='*')"
} >"tests/records/$name.json.new"
mv "tests/records/$name.json.new" "tests/records/$name.json"
