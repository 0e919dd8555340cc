#!/bin/bash
# Make the release archive: the sources, and the crates to build them without a
# network. Debian and RPM packages are built from it.
#
#   packaging/dist.sh TARGET_DIRECTORY
#
# Takes the files that git tracks. Where @MAINTAINER@ or @HOMEPAGE@ appears under packaging/,
# the archive has the values of packaging/publisher.
set -euo pipefail

mkdir -p "$1/dist"
out=$(realpath "$1")/dist
cd "$(dirname "$0")/.."
top=$PWD
# shellcheck source=publisher
. packaging/publisher

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=portmap-nft-$version
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
linux=({x86_64,aarch64,i686,powerpc64le,riscv64gc,s390x}-unknown-linux-gnu armv7-unknown-linux-gnueabihf)

fail() { echo "dist: $*" >&2; exit 1; }

# Each place where packagers expect a version has to have the same.
agrees() { # FILE PATTERN
    grep -q "$2" "$1" || fail "$1 is not for version $version with Rust $rust: no line matches $2"
}
agrees packaging/debian/changelog "^portmap-nft (${version//./\\.}-"
agrees packaging/debian/control "cargo (>= ${rust//./\\.})"
agrees packaging/rpm/portmap-nft.spec "^Version: *${version//./\\.}\$"
agrees packaging/rpm/portmap-nft.spec "^BuildRequires: *cargo >= ${rust//./\\.}\$"
agrees packaging/ansible/galaxy.yml "^version: ${version//./\\.}\$"

git rev-parse --is-inside-work-tree >/dev/null || fail "needs the git checkout"
rm -rf "${out:?}"/*
mkdir "$out/$name"
git ls-files -z | while IFS= read -r -d '' file; do
    # A file that is deleted and not committed is in git's list.
    [ ! -e "$file" ] || printf '%s\0' "$file"
done | xargs -0 cp --parents -P -t "$out/$name"
grep -rlE '@(MAINTAINER|HOMEPAGE)@' "$out/$name/packaging" | grep -v -e /dist.sh -e /publisher |
    while IFS= read -r file; do
        text=$(cat "$file")
        text=${text//@MAINTAINER@/"$MAINTAINER"}
        printf '%s\n' "${text//@HOMEPAGE@/"$HOMEPAGE"}" >"$file"
    done

cd "$out/$name"
mkdir .cargo
cargo vendor --locked --versioned-dirs vendor >.cargo/config.toml 2>"$out/vendor.log" ||
    { cat "$out/vendor.log" >&2; exit 1; }

# Crates for other systems only have to be there for cargo to accept Cargo.lock:
# their manifest is enough.
for target in "${linux[@]}"; do
    cargo tree --locked --offline --edges all --prefix none --format '{p}' --target "$target" |
        sed 's/^\([^ ]*\) v\([^ ]*\).*/\1-\2/'
done | sort -u >"$out/used"
for crate in vendor/*; do
    if grep -qxF "${crate#vendor/}" "$out/used"; then continue; fi
    find "$crate" -mindepth 1 -maxdepth 1 ! -name Cargo.toml ! -name .cargo-checksum.json -exec rm -rf {} +
    mkdir "$crate/src"
    : >"$crate/src/lib.rs"
    sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
done
rm "$out/used" "$out/vendor.log"

# Debian wants to know of every file in the archive whose it is.
packaging/copyright.sh . | sed 1d >"$out/crates"
sed -i -e "/^@CRATES@\$/{r $out/crates" -e 'd}' packaging/debian/copyright
rm "$out/crates"
# Fedora, of those that are linked in.
packaging/bundled.sh packaging/rpm/portmap-nft.spec "${linux[@]}"

# The same commit gives the same archive. One thread of xz compresses differently, more
# than one the same.
when=$(git -C "$OLDPWD" log -1 --format=%ct)
cd ..
tar --sort=name --mtime="@$when" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw -cf - "$name" |
    xz -T2 -6 >"$name.tar.xz"
rm -rf "$name"
echo "$out/$name.tar.xz"
"$top/packaging/unpublished.sh"
