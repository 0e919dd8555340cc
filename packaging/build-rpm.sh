#!/bin/bash
# Make the RPM package of the binary that was built, and let rpmlint judge it.
#
#   packaging/build-rpm.sh TARGET_DIRECTORY
set -euo pipefail

target=$1
# cargo-deb strips the binary, this one packs it as it is.
strip --strip-unneeded -o "$target/release/share/portmap" "$target/release/portmap"
rm -rf "$target/generate-rpm"
cargo generate-rpm --target-dir "$target"
rpmlint --config packaging/rpm/rpmlint.toml "$target"/generate-rpm/*.rpm
ls "$target"/generate-rpm/*.rpm
