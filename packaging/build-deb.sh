#!/bin/bash
# Build the Debian source package and from it the binary package, as an archive
# would, and check both with lintian.
#
#   packaging/build-deb.sh TARGET_DIRECTORY
set -euo pipefail

archive=$(realpath "$1"/dist/portmap-nft-*.tar.xz)
out=$(realpath "$1")/debian
packaging=$(realpath "$(dirname "$0")")
name=$(basename "$archive" .tar.xz)
version=${name#portmap-nft-}

rm -rf "$out"
mkdir -p "$out"
cd "$out"
cp "$archive" "portmap-nft_$version.orig.tar.xz"
tar -xf "$archive"
cp -a "$name/packaging/debian" "$name/debian"
cd "$name"

# The compiler may come from rustup, which the list of build dependencies cannot
# name; its settings are in the home directory, and debhelper hides that.
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
unchecked=()
dpkg-query -W cargo >/dev/null 2>&1 || unchecked=(--no-check-builddeps)
dpkg-buildpackage --unsigned-source --unsigned-changes "${unchecked[@]}" >"$out/build.log" 2>&1 ||
    { tail -n 40 "$out/build.log" >&2; exit 1; }
cd "$out"
rm -rf "$name"
lintian --allow-root --fail-on error,warning --tag-display-limit 0 --info ./*.changes
ls "$out"/*.deb "$out"/*.dsc
"$packaging/unpublished.sh"
