#!/bin/bash
# Build the source RPM and from it the binary RPM, as an archive would, and check
# both with rpmlint.
#
#   packaging/build-rpm.sh TARGET_DIRECTORY
set -euo pipefail

archive=$(realpath "$1"/dist/portmap-nft-*.tar.xz)
out=$(realpath "$1")/rpm
packaging=$(realpath "$(dirname "$0")")
name=$(basename "$archive" .tar.xz)

rm -rf "$out"
mkdir -p "$out/SOURCES"
cp "$archive" "$out/SOURCES"
tar -xOf "$archive" "$name/packaging/rpm/portmap-nft.spec" >"$out/SOURCES/portmap-nft.spec"
# The source package has them with their modes, which the umask gave.
chmod 644 "$out"/SOURCES/*

# A source RPM keeps the spec as it was expanded, with the path of the directory that it
# was built in. mock builds in /builddir for that reason, and this in /usr/src, which is
# that directory for the build alone, where the kernel lets us have a mount namespace.
top=/usr/src
place=(unshare --mount --propagation private)
[ "$(id -u)" = 0 ] || place+=(--user --map-root-user)
# shellcheck disable=SC2016
place+=(sh -euc 'mount --bind "$1" "$2"; shift 2; exec "$@"' place "$out" "$top")
if ! "${place[@]}" true 2>"$out/place.log"; then
    echo "the source RPM will hold the path of this directory: $(cat "$out/place.log")" >&2
    top=$out place=()
fi
rm "$out/place.log"

# A machine that does not consist of RPMs, like Debian, has neither a database to
# look up build dependencies in, nor a distribution's macros.
options=(--define "_topdir $top")
# The same source gives the same packages: they have the time of the changelog.
options+=(--define "source_date_epoch_from_changelog 1" --define "use_source_date_epoch_as_buildtime 1"
    --define "clamp_mtime_to_source_date_epoch 1" --define "build_mtime_policy clamp_to_source_date_epoch"
    --define "_buildhost localhost")
cp "$packaging/rpm/fallback.macros" "$out"
[ -n "$(rpm --eval '%{?systemd_post:yes}')" ] || options+=(--load "$top/fallback.macros")
[ -n "$(rpm -qa 2>/dev/null | head -n 1)" ] || options+=(--nodeps)

"${place[@]}" rpmbuild "${options[@]}" -ba "$top/SOURCES/portmap-nft.spec" >"$out/build.log" 2>&1 ||
    { tail -n 40 "$out/build.log" >&2; exit 1; }
rm -rf "$out/BUILD" "$out/BUILDROOT" "$out/fallback.macros"
rpmlint --config "$packaging/rpm/rpmlint.toml" \
    "$out/SOURCES/portmap-nft.spec" "$out"/SRPMS/*.rpm "$out"/RPMS/*/*.rpm
ls "$out"/RPMS/*/*.rpm "$out"/SRPMS/*.rpm
"$packaging/unpublished.sh"
