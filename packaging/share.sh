#!/bin/bash
# Ask the built binary for its manual pages, completions and schema.
#
#   packaging/share.sh BINARY DIRECTORY
set -euo pipefail

bin=$1 share=$2
[ ! -e "$share/rules.schema.json" ] || [ "$bin" -nt "$share/rules.schema.json" ] || exit 0

rm -rf "$share"
mkdir -p "$share/completions"
"$bin" man --output-dir "$share/man"
gzip -9nk "$share"/man/man?/*
"$bin" completions bash >"$share/completions/portmap.bash"
"$bin" completions zsh >"$share/completions/_portmap"
"$bin" completions fish >"$share/completions/portmap.fish"
"$bin" schema >"$share/rules.schema.json"
