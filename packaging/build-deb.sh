#!/bin/bash
# Make the Debian package of the binary that was built, and let lintian judge it.
#
#   packaging/build-deb.sh TARGET_DIRECTORY
set -euo pipefail

target=$1
rm -rf "$target/debian"
cargo deb --locked --no-build --quiet --output "$target/debian/"
lintian --fail-on error,warning --tag-display-limit 0 "$target"/debian/*.deb
ls "$target"/debian/*.deb
