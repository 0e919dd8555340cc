#!/bin/bash
# Ask the built binary for its manual pages, completions and schema, and cargo
# for the licences of what is in it.
#
#   packaging/share.sh BINARY DIRECTORY
set -euo pipefail

bin=$1 share=$2

# As root, portmap writes pages only where no other user could put a link, and the sources may be
# another user's, as they are in a container that builds what is mounted there.
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT

rm -rf "$share"
mkdir -p "$share/completions"
"$bin" man --output-dir "$pages/man"
cp -r "$pages/man" "$share"
"$bin" completions bash >"$share/completions/portmap.bash"
"$bin" completions zsh >"$share/completions/_portmap"
"$bin" completions fish >"$share/completions/portmap.fish"
"$bin" schema >"$share/rules.schema.json"
"$(dirname "$0")/notices.sh" >"$share/THIRD-PARTY"
