#!/bin/bash
# Print the licences of the crates that are linked into portmap.
#
#   packaging/notices.sh >FILE
#
# cargo says which crates those are and where their sources lie; their licence
# texts are in there. Needs no network once portmap has been built.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
offline=(--locked --offline)

# NAME VERSION|LICENCE|REPOSITORY. Macros run at build time, and are not linked in.
crates() {
    cargo tree "${offline[@]}" --edges normal,no-proc-macro --prefix none --format '{p}|{l}|{r}' |
        sed 's/ (\*)$//; s/^\([^ ]*\) v\([^ |]*\)[^|]*/\1 \2/' | grep -v '^portmap-nft ' | LC_ALL=C sort -u
}

# The directory of each crate, and of those that are not linked in.
directories() {
    cargo metadata "${offline[@]}" --format-version 1 --filter-platform "$host" |
        grep -o '"manifest_path":"[^"]*"' | sed 's/.*:"//; s/"$//; s|/Cargo.toml$||'
}

# The licence MIT as SPDX has it, for a crate that names it and has no text.
mit() { # AUTHORS
    cat <<END
MIT License

Copyright (c) $1

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
END
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
crates >"$work/crates"
directories >"$work/directories"

cat <<'END'
Third-party notices
===================

The program portmap is under the GNU General Public License, version 2 or later.
It contains the following software of others, under the licences named, and the
standard library of Rust, which is Copyright (c) The Rust Project Contributors,
under MIT OR Apache-2.0.

END

apache='' wanting=()
while IFS='|' read -r crate licence repository; do
    read -r name version <<<"$crate"
    printf '%s %s\n    %s\n    %s\n' "$name" "$version" "${licence//\// OR }" "$repository"
    # The sources of cargo's own cache and of `cargo vendor --versioned-dirs`.
    directory=$(grep -m 1 "/$name-$version\$" "$work/directories") ||
        { echo "notices: no sources of $name $version" >&2; exit 1; }
    found=
    for text in "$directory"/{LICEN[CS]E,COPYING,COPYRIGHT,NOTICE,UNLICENSE}*; do
        [ -f "$text" ] || continue
        found=yes
        digest=$(sha256sum <"$text" | cut -d ' ' -f 1)
        cp "$text" "$work/text.$digest"
        echo "$name" >>"$work/of.$digest"
        ! grep -q 'Apache License' "$text" || apache=$digest
    done
    [ -z "$found" ] || continue
    authors=$(awk '/^authors = / { on = 1 } on { print } on && /\]/ { exit }' "$directory/Cargo.toml" |
        grep -o '"[^"]*"' | tr -d '"' | paste -sd ';' | sed 's/;/, /g')
    case "$licence" in
    *Apache-2.0*) wanting+=("$name") ;;
    *MIT*)
        mit "${authors:-the authors of $name}" >"$work/text.mit-$name"
        echo "$name" >"$work/of.mit-$name" ;;
    *) echo "notices: $name $version has no licence text" >&2; exit 1 ;;
    esac
done <"$work/crates"

# A crate without a text that may be used under the Apache License: that text is
# the same for all.
if [ ${#wanting[@]} -gt 0 ]; then
    [ -n "$apache" ] || { echo "notices: no text of the Apache License" >&2; exit 1; }
    printf '%s\n' "${wanting[@]}" >>"$work/of.$apache"
fi

for text in "$work"/text.*; do
    printf '%s\t%s\n' "$(head -n 1 "$work/of.${text##*.}")" "$text"
done | LC_ALL=C sort | while IFS=$'\t' read -r _ text; do
    printf '\n%s\n' "--------------------------------------------------------------------------------"
    LC_ALL=C sort -u "$work/of.${text##*.}" | paste -sd ' ' | fold -s -w 80
    printf '\n'
    cat "$text"
done
