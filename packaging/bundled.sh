#!/bin/bash
# Fill in a spec file what Fedora asks of a program whose crates come with its sources: each
# one that is linked in, in place of the line @CRATES@, and all licences, in place of @LICENCES@.
#
#   packaging/bundled.sh SPEC TARGET…
#
# Run in the release archive. The targets are those whose crates are counted: one spec file
# serves all architectures.
set -euo pipefail
spec=$1
shift

# NAME VERSION|LICENCE. Macros run at build time, and are not linked in.
linked() { # TARGET…
    local target
    for target in "$@"; do
        cargo tree --locked --offline --edges normal,no-proc-macro --prefix none --format '{p}|{l}' --target "$target"
    done | sed 's/ (\*)$//; s/^\([^ ]*\) v\([^ |]*\)[^|]*/\1 \2/' | grep -v '^portmap-nft ' | LC_ALL=C sort -u
}

# An SPDX expression with its alternatives in order, so that two of one meaning are one.
ordered() {
    sed 's|/| OR |g' | while IFS= read -r licence; do
        case $licence in
        *' AND '*) printf '(%s)\n' "$licence" ;;
        *' OR '*)
            sed 's/ OR /\n/g' <<<"$licence" | LC_ALL=C sort -u | paste -sd '|' | sed 's/|/ OR /g; s/.*/(&)/' ;;
        ?*) printf '%s\n' "$licence" ;;
        *) echo "bundled: a crate names no licence" >&2; exit 1 ;;
        esac
    done
}

crates=$(linked "$@")
licences=$(cut -d '|' -f 2 <<<"$crates" | LC_ALL=C sort -u | ordered | LC_ALL=C sort -u |
    sed 's/^/ AND /' | tr -d '\n')
text=$(cat "$spec")
[[ $text == *$'\n@CRATES@\n'* && $text == *' @LICENCES@'* ]] ||
    { echo "bundled: $spec has no line @CRATES@, or no @LICENCES@" >&2; exit 1; }
# A version of rpm's has no hyphen; what comes before a version has a tilde.
provides=$(cut -d '|' -f 1 <<<"$crates" | while read -r name version; do
    printf 'Provides:       bundled(crate(%s)) = %s\n' "$name" "${version//-/\~}"
done)
text=${text/@CRATES@/"$provides"}
printf '%s\n' "${text/ @LICENCES@/"$licences"}" >"$spec"
